//! What the counts must hold.
#[test]
fn measure() {
    use std::time::Instant;
    use rand::{Rng, SeedableRng};
    const N: usize = 100_000_000;
    let pool = super::pool::shared().unwrap();
    let t = pool.current_num_threads();
    let (mut ks, mut inc, mut dr) = (vec![], vec![], vec![]);
    for round in 0..12u64 {
        let s = Instant::now();
        pool.broadcast(|c| {
            let mut r = rand_chacha::ChaCha8Rng::seed_from_u64(round);
            r.set_stream(c.index() as u64);
            let mut buf = vec![0u8; 8192];
            for _ in 0..(2 * N / t / 8192) { r.fill_bytes(&mut buf); std::hint::black_box(&mut buf); }
        });
        ks.push(s.elapsed().as_secs_f64() * 1e3);
        let places: Vec<u16> = (0..65536u32).map(|i| ((i.wrapping_mul(2654435761) >> 16) * 1000 >> 16) as u16).collect();
        let s = Instant::now();
        pool.broadcast(|_| {
            let mut bins = vec![0u32; 1000];
            let mut left = N / t;
            while left > 0 {
                let k = left.min(places.len());
                for &p in std::hint::black_box(&places[..k]) { let b = &mut bins[p as usize]; *b = b.wrapping_add(1); }
                left -= k;
            }
            std::hint::black_box(&mut bins);
        });
        inc.push(s.elapsed().as_secs_f64() * 1e3);
        let s = Instant::now();
        let h = super::histogram(&super::HistogramRequest::new().seed(round)).unwrap();
        dr.push(s.elapsed().as_secs_f64() * 1e3);
        std::hint::black_box(h);
    }
    for (n, v) in [("keystream", &mut ks), ("increments", &mut inc), ("draw", &mut dr)] {
        v.sort_by(f64::total_cmp);
        println!("{n} min {:.1} median {:.1}", v[0], v[v.len() / 2]);
    }
    println!("ratio min {:.2} median {:.2}", dr[0] / (ks[0] + inc[0]), dr[6] / (ks[6] + inc[6]));
    for (values, count) in [(1000i64, u64::MAX), (1 << 24, u64::MAX), (1000, 10_000_000_000_000), (1<<24, 100_000_000)] {
        let s = Instant::now();
        super::histogram(&super::HistogramRequest::new().seed(1).count(count).range(1..=values).method(super::Method::Multinomial)).unwrap();
        println!("multinomial {values} {count} {:?}", s.elapsed());
    }
    for values in [10i64, 40_000, 65_536, 65_537, 1 << 24] {
        let s = Instant::now();
        super::histogram(&super::HistogramRequest::new().seed(1).range(1..=values)).unwrap();
        println!("draw 1e8 {values} {:?}", s.elapsed());
    }
}
