//! The sample tasks: small calculations that anybody may ask for. Each takes its parameters by name, or as the list
//! that the clients of a task server send.

mod arithmetic;
mod pi;
mod prime;
mod random_number;
mod text;

use crate::env::Env;

use super::Kinds;

/// Adds all samples to `kinds`.
pub fn put_all(kinds: &mut Kinds, env: &Env) {
    kinds.put("sum", arithmetic::Fold::SUM);
    kinds.put("multiplication", arithmetic::Fold::MULTIPLICATION);
    kinds.put("prime", prime::Prime);
    kinds.put("pi_digits", pi::PiDigits);
    kinds.put("hash", text::Hash);
    kinds.put("text_inversion", text::Inversion);
    kinds.put("random_number", random_number::RandomNumber { entropy: env.entropy.clone() });
}
