//! Threads, cancelling and progress.

use super::*;

/// Counts that depended on who made which chunk could never be repeated on another machine.
#[test]
fn any_number_of_threads_gives_the_same_counts() {
    let control = Control::new();
    for values in [7, 1_000, 70_000] {
        let count = 5 * draw::CHUNK + 17;
        let expected = counted(Method::Draw, 11, count, 1..=i64::from(values));
        let sampled = counted(Method::Multinomial, 11, u64::MAX / 100, 1..=i64::from(values));
        for threads in [1, 2, 3, 8] {
            println!("seed=11 values={values} threads={threads}");
            for limit in [1, threads] {
                let pool = pool_of(threads);
                assert_eq!(draw::counts(&pool, 11, count, values, limit, &control).expect("nobody cancels"), expected);
                let parts =
                    multinomial::counts(&pool, 11, u64::MAX / 100, values, limit, &control).expect("nobody cancels");
                assert_eq!(parts, sampled);
            }
        }
    }
}

/// A run that has already been given up must not begin, also where there is next to nothing to do.
#[test]
fn a_cancelled_control_stops_a_run_before_it_begins() {
    for method in METHODS {
        for count in [0, 1, u64::MAX] {
            let control = Control::new();
            control.cancel();
            let request = HistogramRequest::new().method(method).count(count).control(&control);
            assert_eq!(refusal(&request), ErrorKind::Cancelled);
            assert!(control.progress() < 1.0);
        }
    }
}

/// A caller that went away must not leave centuries of draws behind, and a run that was stopped is not complete.
#[test]
fn dropping_the_guard_stops_a_run_that_is_under_way() {
    for (method, values) in [(Method::Draw, 1_000), (Method::Multinomial, 1 << 24)] {
        let control = Control::new();
        let request = HistogramRequest::new().method(method).count(u64::MAX).range(1..=values).control(&control);
        let run = std::thread::spawn(move || refusal(&request));
        let guard = control.cancel_on_drop();
        while control.progress() == 0.0 {
            std::thread::yield_now();
        }
        drop(guard);
        assert_eq!(run.join().expect("the run does not panic"), ErrorKind::Cancelled);
        assert!(control.is_cancelled() && control.progress() < 1.0);
    }
}

/// A bar that stops short of its end looks like a run that hangs.
#[test]
fn progress_ends_at_one_and_a_disarmed_guard_lets_the_run_be() {
    for method in METHODS {
        for count in [0, 1, 1_000_000] {
            let control = Control::new();
            assert!(control.progress() < f64::EPSILON);
            let guard = control.cancel_on_drop();
            histogram(&HistogramRequest::new().method(method).count(count).control(&control)).expect("nobody cancels");
            guard.disarm();
            assert!(control.progress() >= 1.0 && !control.is_cancelled());
        }
    }
}

/// Requests of one process share one pool: a pool per request would let them crowd out the host's threads.
#[test]
fn the_pool_is_made_once_and_fits_the_quota() {
    let first = pool::shared().expect("the machine gives threads");
    assert!(std::ptr::eq(first, pool::shared().expect("the machine gives threads")));
    assert_eq!(first.current_num_threads(), parallelism());
}
