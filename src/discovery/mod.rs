//! The `discovery` room.
