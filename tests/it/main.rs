//! What the parts do together, and what they do with bytes of other programs.

mod acceptance;
mod cli_client;
mod cli_help;
mod cli_inspect;
mod cli_usage;
mod golden;
mod hostile;
mod http_curl;
mod http_framing;
mod http_limits;
mod http_node;
mod http_rig;
mod http_routes;
mod kv_properties;
mod kv_threads;
mod nodes;
mod program;
mod replication_formats;
mod swim;
mod swim_cluster;
mod swim_properties;
mod swim_timing;
mod swim_words;
mod tidy;
mod vectors;
mod wire_properties;
