//! SQLite, as durable as Kappa: write-ahead log, `synchronous=FULL`.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, Condvar, Mutex};

use kappa_benches::{Stopwatch, id, product};
use rusqlite::{Connection, params};

/// A table of products with the same index.
pub struct Sqlite {
    connection: Connection,
    next: u64,
}

impl Sqlite {
    /// A database of its own in the file `name`.
    pub fn new(directory: &Path, name: &str) -> Self {
        let connection = Connection::open(directory.join(name)).expect("the directory can be written");
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
            let numbers = self.next..end.min(self.next + group);
            self.next = numbers.end;
            self.insert(numbers.map(row));
        }
        watch.seconds()
    }

    /// So many threads insert for `seconds`, one product after another, each of which waits until its product is durable;
    /// one more thread puts what has gathered into a transaction. How many products, in how many seconds.
    pub fn run_threads(&mut self, writers: usize, seconds: f64) -> (u64, f64) {
        let queue = Queue::default();
        let (ready, end, next) = (Barrier::new(writers + 1), AtomicBool::new(false), AtomicU64::new(self.next));
        let first = self.next;
        let elapsed = std::thread::scope(|scope| {
            scope.spawn(|| {
                while let Some(rows) = queue.take() {
                    self.insert(rows.into_iter());
                    queue.committed();
                }
            });
            let write = || {
                ready.wait();
                while !end.load(Ordering::Relaxed) {
                    queue.insert(row(next.fetch_add(1, Ordering::Relaxed)));
                }
            };
            let threads: Vec<_> = (0..writers).map(|_| scope.spawn(write)).collect();
            ready.wait();
            let watch = Stopwatch::start();
            watch.wait_until(seconds);
            end.store(true, Ordering::Relaxed);
            for thread in threads {
                thread.join().expect("a writer does not panic");
            }
            queue.end();
            watch.seconds()
        });
        self.next = next.into_inner();
        (self.next - first, elapsed)
    }

    fn insert(&mut self, rows: impl Iterator<Item = Row>) {
        let transaction = self.connection.transaction().expect("nobody else writes");
        let mut insert =
            transaction.prepare_cached("INSERT INTO products VALUES (?1, ?2, ?3)").expect("the statement is right");
        for (id, price, document) in rows {
            insert.execute(params![id, price, document]).expect("the id is new");
        }
        drop(insert);
        transaction.commit().expect("nobody else writes");
    }
}

/// Id, price and text of a product.
type Row = (String, f64, String);

fn row(number: u64) -> Row {
    (id(number), (number % 100_000) as f64, product(number))
}

/// What a program puts in front of SQLite so that its threads share transactions.
#[derive(Default)]
struct Queue {
    state: Mutex<Gathered>,
    arrived: Condvar,
    /// For those of even and of odd transactions: one wakes its own threads with a single call, and no other ones.
    committed: [Condvar; 2],
}

#[derive(Default)]
struct Gathered {
    rows: Vec<Row>,
    /// The number of the transaction that will take them.
    next: usize,
    /// So many transactions are durable.
    committed: usize,
    ended: bool,
}

impl Queue {
    /// Leaves a row and waits until it is durable.
    fn insert(&self, row: Row) {
        let mut state = self.state.lock().expect(NO_PANIC);
        state.rows.push(row);
        let own = state.next;
        if state.rows.len() == 1 {
            self.arrived.notify_one();
        }
        let committed = &self.committed[own % 2];
        drop(committed.wait_while(state, |state| state.committed <= own).expect(NO_PANIC));
    }

    /// Waits for rows; none at the end.
    fn take(&self) -> Option<Vec<Row>> {
        let state = self.state.lock().expect(NO_PANIC);
        let waited = self.arrived.wait_while(state, |state| state.rows.is_empty() && !state.ended);
        let mut state = waited.expect(NO_PANIC);
        state.next += 1;
        Some(std::mem::take(&mut state.rows)).filter(|rows| !rows.is_empty())
    }

    /// Lets the threads go on whose rows were taken last.
    fn committed(&self) {
        let mut state = self.state.lock().expect(NO_PANIC);
        let own = state.committed;
        state.committed += 1;
        drop(state);
        self.committed[own % 2].notify_all();
    }

    fn end(&self) {
        self.state.lock().expect(NO_PANIC).ended = true;
        self.arrived.notify_one();
    }
}

const NO_PANIC: &str = "no thread panics with the queue locked";
