//! The log: an unbroken tail of records over a sorted base.
