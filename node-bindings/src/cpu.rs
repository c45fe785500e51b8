//! The processor, memory and system under this process.

use napi_derive::napi;

use crate::answer::Text;
use crate::guard::export;
use crate::port::JsText;

/// Describes the machine as it is now.
#[napi]
pub fn cpu_info() -> napi::Result<JsText> {
    export("cpuInfo", || Ok(Text::of(&kappa_core::cpu::cpu_info())?.json.into()))
}
