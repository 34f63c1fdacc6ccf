//! Parquet, by the Apache project's own library, without Arrow.

use std::{fs::File, path::Path};

use moerge_core::{
    caught::caught,
    error::{Error, Result},
    jsonl::MAX_LINES,
};
use parquet::{
    errors::ParquetError,
    file::{reader::FileReader, serialized_reader::SerializedFileReader},
    record::Row as Record,
};
use serde_json::Value;

use super::{super::task::Row, damaged};

/// Reads a file of at most `most` bytes.
pub(super) fn read(path: &Path, most: u64) -> Result<Vec<Row>> {
    let file = File::open(path).map_err(|e| Error::io("read", path, &e))?;
    let bytes = file.metadata().map_err(|e| Error::io("read", path, &e))?.len();
    if bytes > most {
        return Err(damaged(path, &format!("it has {bytes} bytes, more than the limit of {most}")));
    }
    // The library may panic on damaged pages.
    match caught(|| rows(file)) {
        Ok(Ok(rows)) => Ok(rows),
        Ok(Err(e)) => Err(damaged(path, &e.to_string())),
        Err(_) => Err(damaged(path, "its pages are damaged")),
    }
}

fn rows(file: File) -> Result<Vec<Row>, ParquetError> {
    let reader = SerializedFileReader::new(file)?;
    let count = reader.metadata().file_metadata().num_rows();
    if count > MAX_LINES as i64 {
        return Err(ParquetError::General(format!("it has {count} rows, more than the limit of {MAX_LINES}")));
    }
    let row = |record: Result<Record, ParquetError>| match record?.to_json_value() {
        Value::Object(row) => Ok(row),
        _ => Err(ParquetError::General("a row is not a record".into())),
    };
    reader.get_row_iter(None)?.map(row).collect()
}
