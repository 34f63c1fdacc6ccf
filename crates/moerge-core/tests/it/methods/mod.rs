//! The merge methods against mergekit 0.1.5, whose results at float32 lie beside this file. `make.py` made them.

mod case;
mod golden;
mod masks;
mod tensors;
