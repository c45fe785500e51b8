//! Settings of a database.
