//! What the parts do together, and what they do with bytes of other programs.

mod acceptance;
mod golden;
mod hostile;
mod kv_properties;
mod kv_threads;
mod vectors;
mod wire_properties;
