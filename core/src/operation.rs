//! Every domain call as data.
