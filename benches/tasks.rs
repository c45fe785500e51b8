//! The task queue: one durable task after another, a million finished ones, and an open loop of `POST /tasks`.

#[path = "tasks/finished.rs"]
mod finished;
#[path = "tasks/load.rs"]
mod load;
#[path = "tasks/open_loop.rs"]
mod open_loop;
#[path = "peers/raw.rs"]
mod raw;
#[path = "tasks/server.rs"]
mod server;
#[path = "tasks/single.rs"]
mod single;

use kappa_benches::is_wanted;

fn main() {
    if server::is_asked_for() {
        return server::run();
    }
    if finished::is_asked_for() {
        return finished::run();
    }
    if is_wanted("tasks single") {
        single::measure();
    }
    if is_wanted("tasks finished") {
        finished::measure();
    }
    if is_wanted("tasks load") {
        load::measure();
    }
}
