//! A Hub for trying things by hand, Python's client among them:
//!
//!     cargo run -p moerge --example hub -- 127.0.0.1:8899 org/base=examples/tiny/base
//!
//! It serves the folders of the command line, as `id=folder`, and takes pushes; `hf_hand` is the token of the user `me`.
//! Then, elsewhere: `HF_ENDPOINT=http://127.0.0.1:8899 HF_TOKEN=hf_hand moerge pull org/base`.
#![allow(dead_code, unused_imports, reason = "the tests use the rest")]

use std::path::Path;

#[path = "../tests/it/hub_server/mod.rs"]
mod hub_server;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8899".to_owned());
    let hub = hub_server::HubServer::at(&address);
    hub.add_user("hf_hand", "me");
    for argument in arguments {
        match argument.split_once('=') {
            Some((id, folder)) => drop(hub.add_folder(id, Path::new(folder))),
            None => eprintln!("`{argument}` is not of the form id=folder"),
        }
    }
    println!("listening at http://{address}; Ctrl-C ends it");
    loop {
        std::thread::park();
    }
}
