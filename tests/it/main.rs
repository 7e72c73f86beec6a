//! What the parts do together, and what they do with bytes of other programs.

mod acceptance;
mod cli_client;
mod cli_help;
mod cli_inspect;
mod cli_usage;
mod golden;
mod hostile;
mod program;
mod swim;
mod swim_cluster;
mod swim_properties;
mod swim_timing;
mod swim_words;
mod vectors;
mod wire_properties;
