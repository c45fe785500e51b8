//! Documents on the border: Python objects to JSON text, and back.

mod encode;
mod reader;
mod tape;

pub use encode::{Text, document, text_of, type_name, value};
pub use reader::{Reader, object};
pub use tape::Tape;
