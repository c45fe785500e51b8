//! SQLite, as durable as Kappa: write-ahead log, `synchronous=FULL`.

use std::path::Path;

use kappa_benches::{Stopwatch, id, product};
use rusqlite::{Connection, params};

/// A table of products with the same index.
pub struct Sqlite {
    connection: Connection,
    next: u64,
}

impl Sqlite {
    pub fn new(directory: &Path) -> Self {
        let connection = Connection::open(directory.join("sqlite")).expect("the directory can be written");
        let set_up = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
            CREATE TABLE products (id TEXT PRIMARY KEY, price REAL, document TEXT) WITHOUT ROWID;
            CREATE INDEX by_price ON products (price);";
        connection.execute_batch(set_up).expect("the statements are right");
        Self { connection, next: 0 }
    }

    /// Seconds to insert `count` products, `group` in each transaction. Ids ascend as Kappa's do.
    pub fn run(&mut self, count: u64, group: u64) -> f64 {
        let end = self.next + count;
        let watch = Stopwatch::start();
        while self.next < end {
            let transaction = self.connection.transaction().expect("nobody else writes");
            let mut insert =
                transaction.prepare_cached("INSERT INTO products VALUES (?1, ?2, ?3)").expect("the statement is right");
            for _ in 0..group.min(end - self.next) {
                let id = id(self.next);
                let document = product(self.next);
                let price = (self.next % 100_000) as f64;
                insert.execute(params![id, price, document]).expect("the id is new");
                self.next += 1;
            }
            drop(insert);
            transaction.commit().expect("nobody else writes");
        }
        watch.seconds()
    }
}
