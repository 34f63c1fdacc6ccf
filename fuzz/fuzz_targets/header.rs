//! Any bytes as the header of a safetensors file: they never panic, what is accepted is written and
//! read back the same, and the format's own library agrees on what is valid.
#![no_main]

use moerge_checkpoint::{Header, HeaderError};
use libfuzzer_sys::fuzz_target;
use safetensors::SafeTensors;

fuzz_target!(|input: (u16, &[u8])| {
    let (data_len, json) = input;
    let file_len = 8 + json.len() as u64 + u64::from(data_len);
    let ours = Header::parse(json, file_len);

    let mut file = (json.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(json);
    file.resize(file_len as usize, 0);
    let theirs = SafeTensors::deserialize(&file);

    match (&ours, &theirs) {
        (Ok(ours), Ok(theirs)) => {
            assert_eq!(ours.tensors.len(), theirs.len());
            for tensor in &ours.tensors {
                let view = theirs.tensor(&tensor.name).expect("a tensor that only we see");
                assert_eq!(view.shape(), tensor.shape);
                assert_eq!(view.dtype().to_string(), tensor.dtype.name());
                let offset = view.data().as_ptr() as usize - file.as_ptr() as usize;
                assert_eq!(offset as u64, ours.data_start + tensor.begin);
                assert_eq!(view.data().len() as u64, tensor.end - tensor.begin);
            }
        }
        (Err(_), Err(_)) => {}
        // Where we are stricter on purpose: the format forbids both.
        (Err(HeaderError::DuplicateName { .. } | HeaderError::NotAnObject), Ok(_)) => {}
        (Err(error), Ok(_)) => panic!("only we refuse it: {error}"),
        (Ok(_), Err(error)) => panic!("only they refuse it: {error:?}"),
    }

    if let Ok(header) = ours {
        let bytes = Header::encode(&header.tensors, &header.metadata).expect("shorter than it was");
        let again = Header::parse(&bytes[8..], bytes.len() as u64 + u64::from(data_len)).expect("our own header");
        assert_eq!((again.tensors, again.metadata), (header.tensors, header.metadata));
    }
});
