//! CPU and host information.
