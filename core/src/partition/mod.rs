//! Keys to partitions, transactions, the committer and the feed.
