//! Point reads of hot documents, and of more than the record cache holds, against sled alone and LMDB with the same keys and
//! values.

use std::path::Path;

use heed::types::Bytes;
use kappa_benches::{
    Numbers, Rounds, Stopwatch, describe, directory, id, is_soak, is_wanted, product_with_id, say, settle,
};
use kappa_core::{Document, Kappa, Options, ViewKind};

const BATCH: u64 = 500;

fn main() {
    if !is_wanted("reads") {
        return;
    }
    describe("reads");
    let size = if is_soak() {
        Size { documents: 1_000_000, hot: 100_000, reads: 4_000_000, rounds: 3 }
    } else {
        Size { documents: 200_000, hot: 20_000, reads: 400_000, rounds: 7 }
    };
    let wide = Size { documents: 400_000, hot: 400_000, reads: 400_000, rounds: 5 };
    for size in [size, wide] {
        side_by_side(&size, 1);
        side_by_side(&size, 2);
    }
}

struct Size {
    documents: u64,
    hot: u64,
    reads: usize,
    rounds: usize,
}

impl Size {
    /// Whether the reads are spread over more than the record cache holds.
    fn is_wide(&self) -> bool {
        self.hot == self.documents
    }

    /// The ids to read, in order: each of the hot ones equally often, spread over the whole range.
    fn ids(&self) -> Vec<String> {
        let mut numbers = Numbers::new(1);
        let step = self.documents / self.hot;
        (0..self.reads).map(|_| id(numbers.below(self.hot) * step)).collect()
    }
}

/// Something that answers an id with a value.
trait Subject: Sync {
    /// The sum of the lengths of the values of `ids`.
    fn read(&self, ids: &[String]) -> usize;
}

struct InKappa(Kappa);

impl InKappa {
    fn new(place: &Path, view: ViewKind, size: &Size) -> Self {
        let options = Options { view, ..Options::default() };
        let kappa = Kappa::open_with(place.join(view.name()), &options, &kappa_core::env::Env::default())
            .expect("a new directory");
        for start in (0..size.documents).step_by(BATCH as usize) {
            let numbers = start..(start + BATCH).min(size.documents);
            let document = |number| Document::parse(product_with_id(&id(number), number)).expect("a document");
            let batch = numbers.fold(kappa.batch(), |batch, number| batch.create("products", document(number)));
            batch.commit().wait().expect("the ids are new");
        }
        // The end drains everything into the view's store: what is read afterwards is there, not in a memtable.
        kappa.close().expect("the database closes");
        Self(
            Kappa::open_with(place.join(view.name()), &options, &kappa_core::env::Env::default())
                .expect("it opens again"),
        )
    }
}

impl Subject for InKappa {
    fn read(&self, ids: &[String]) -> usize {
        let products = self.0.products();
        let read = |id: &String| products.get(id).wait().expect("reads answer").expect("the product is there");
        ids.iter().map(|id| read(id).text().len()).sum()
    }
}

struct InSled(sled::Db);

impl InSled {
    fn new(place: &Path, size: &Size) -> Self {
        let db = sled::open(place.join("peer")).expect("a new directory");
        for number in 0..size.documents {
            let id = id(number);
            db.insert(id.as_bytes(), product_with_id(&id, number).as_bytes()).expect("sled takes it");
        }
        db.flush().expect("sled flushes");
        Self(db)
    }
}

impl Subject for InSled {
    fn read(&self, ids: &[String]) -> usize {
        ids.iter().map(|id| self.0.get(id).expect("sled answers").expect("the product is there").len()).sum()
    }
}

struct InLmdb {
    env: heed::Env,
    products: heed::Database<Bytes, Bytes>,
    /// Whether the reads share one transaction and only look at their values: the least that LMDB can do, but
    /// a value cannot be handed on so.
    borrowed: bool,
}

impl InLmdb {
    fn new(env: &heed::Env, borrowed: bool) -> Self {
        let mut transaction = env.write_txn().expect("nobody else writes");
        let products = env.create_database(&mut transaction, None).expect("the default database");
        transaction.commit().expect("the disk has room");
        Self { env: env.clone(), products, borrowed }
    }

    fn get<'a>(&self, transaction: &'a heed::RoTxn<'_>, id: &str) -> &'a [u8] {
        self.products.get(transaction, id.as_bytes()).expect("LMDB answers").expect("the product is there")
    }

    fn fill(&self, size: &Size) {
        let mut transaction = self.env.write_txn().expect("nobody else writes");
        for number in 0..size.documents {
            let id = id(number);
            let value = product_with_id(&id, number);
            self.products.put(&mut transaction, id.as_bytes(), value.as_bytes()).expect("the map has room");
        }
        transaction.commit().expect("the disk has room");
    }
}

impl Subject for InLmdb {
    fn read(&self, ids: &[String]) -> usize {
        if self.borrowed {
            let transaction = self.env.read_txn().expect("a reader's slot is free");
            // One byte of the value is looked at: it would not be read from memory otherwise.
            let length = |value: &[u8]| value.len() + usize::from(value[value.len() - 1] == 0);
            return ids.iter().map(|id| length(self.get(&transaction, id))).sum();
        }
        let owned = |id: &String| {
            let transaction = self.env.read_txn().expect("a reader's slot is free");
            self.get(&transaction, id).to_vec()
        };
        ids.iter().map(|id| owned(id).len()).sum()
    }
}

#[expect(unsafe_code, reason = "heed's open is unsafe: the map must not be changed by others")]
fn lmdb(place: &Path) -> heed::Env {
    let place = place.join("lmdb");
    std::fs::create_dir_all(&place).expect("the directory can be written");
    // SAFETY: the directory is new and this process alone knows it.
    unsafe { heed::EnvOpenOptions::new().map_size(4 << 30).open(place) }.expect("a new directory")
}

fn side_by_side(size: &Size, threads: usize) {
    let place = directory(env!("CARGO_TARGET_TMPDIR"));
    let watch = Stopwatch::start();
    let env = lmdb(place.path());
    let owned = InLmdb::new(&env, false);
    owned.fill(size);
    let subjects: [(&str, Box<dyn Subject>); 5] = [
        ("kappa", Box::new(InKappa::new(place.path(), ViewKind::Sled, size))),
        ("kappa, view in memory", Box::new(InKappa::new(place.path(), ViewKind::Memory, size))),
        ("sled alone", Box::new(InSled::new(place.path(), size))),
        ("lmdb, a transaction a read", Box::new(owned)),
        ("lmdb, borrowed", Box::new(InLmdb::new(&env, true))),
    ];
    settle();
    let Size { documents, hot, reads, rounds: count } = *size;
    say(format_args!("\n  filled with {documents} documents in {:.1} s", watch.seconds()));
    let ids = size.ids();
    let hot = if size.is_wide() { format!("all {hot}") } else { format!("{hot} hot") };
    let title = format!("reads: {reads} of {hot} ids by {threads} thread(s)");
    let mut rounds = Rounds::new(title, "thousand reads/s");
    for round in 0..=count {
        let mut lengths = Vec::new();
        for (name, subject) in &subjects {
            let watch = Stopwatch::start();
            lengths.push(run(subject.as_ref(), &ids, threads));
            if round > 0 {
                rounds.add(name, ids.len() as f64 / watch.seconds() / 1e3);
            }
        }
        assert!(lengths.iter().all(|length| *length == lengths[0]), "all must read the same: {lengths:?}");
    }
    rounds.print();
    if size.is_wide() {
        rounds.report("kappa", "sled alone");
        rounds.report("kappa", "lmdb, a transaction a read");
    } else {
        rounds.at_least("kappa", "sled alone", 1.0);
        rounds.at_least("kappa", "lmdb, a transaction a read", 0.7);
    }
    rounds.report("kappa", "lmdb, borrowed");
    rounds.report("kappa, view in memory", "kappa");
}

fn run(subject: &dyn Subject, ids: &[String], threads: usize) -> usize {
    std::thread::scope(|scope| {
        let parts = ids.chunks(ids.len().div_ceil(threads));
        let threads: Vec<_> = parts.map(|part| scope.spawn(|| subject.read(part))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a reader does not panic")).sum()
    })
}
