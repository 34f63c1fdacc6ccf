//! The formats and the output folder, from outside.

mod common;
mod crash;
mod crash_file;
mod crash_objects;
mod malformed_header;
mod malformed_index;
mod open_checkpoint;
mod output_dir;
mod pickles;
mod round_trip;
mod simulated_disk;
