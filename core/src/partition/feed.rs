//! The change feed: the events of committed records, with the new values.
