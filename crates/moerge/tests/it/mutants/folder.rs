//! Changes to the files of a folder that know nothing of their meaning: bytes, names, links, JSON nodes.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use super::random::Random;

/// Changes one thing in a folder; what it was.
pub fn mutate(dir: &Path, random: &mut Random) -> String {
    let mut files: Vec<PathBuf> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_file()).collect();
    files.sort();
    if files.is_empty() {
        return "nothing".into();
    }
    let file = files[random.below(files.len())].clone();
    let other = files[random.below(files.len())].clone();
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    if !file.metadata().is_ok_and(|m| m.len() < 64 << 20) {
        return "nothing".into();
    }
    let Ok(mut bytes) = fs::read(&file) else { return "nothing".into() };
    match random.below(16) {
        0..=5 if name.ends_with(".json") => {
            let Ok(mut value) = serde_json::from_slice::<Value>(&bytes) else { return "nothing".into() };
            let what = mutate_json(&mut value, random);
            fs::write(&file, value.to_string()).unwrap();
            return format!("{name}: {what}");
        }
        0..=5 if name.ends_with(".safetensors") => {
            let what = mutate_header(&mut bytes, random);
            fs::write(&file, bytes).unwrap();
            return format!("{name}: {what}");
        }
        0..=7 => {
            for _ in 0..=random.below(8) {
                let at = random.below(bytes.len());
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random.next() as u8;
                }
            }
            fs::write(&file, bytes).unwrap();
        }
        8 => {
            bytes.truncate(random.below(bytes.len()));
            fs::write(&file, bytes).unwrap();
        }
        9 => {
            bytes.extend((0..random.below(5000)).map(|_| b'{'));
            fs::write(&file, bytes).unwrap();
        }
        10 => fs::remove_file(&file).unwrap(),
        11 => fs::rename(&file, &other).unwrap(),
        12 => {
            fs::copy(&file, &other).unwrap_or_default();
        }
        13 => {
            fs::remove_file(&file).unwrap();
            Command::new("mkfifo").arg(&file).status().unwrap();
            return format!("{name}: a pipe");
        }
        14 => {
            fs::remove_file(&file).unwrap();
            let target = random.pick(&["/dev/zero", "/dev/full", "nowhere", "..", "/proc/self/mem"]);
            symlink(if target == "nowhere" { name.as_str() } else { target }, &file).unwrap();
            return format!("{name}: a link to {target}");
        }
        _ => {
            let odd =
                dir.join(random.pick(&["a\n\u{1b}[31mb", "model-00001-of-00002.safetensors", "adapter_config.json"]));
            fs::copy(&file, odd).unwrap();
        }
    }
    format!("{name}: bytes or name")
}

/// A value where software rarely expects it.
pub fn odd_value(random: &mut Random) -> Value {
    match random.below(16) {
        0 => Value::Null,
        1 => json!(-1),
        2 => json!(0),
        3 => json!(1),
        4 => json!(u64::MAX),
        5 => json!(i64::MIN),
        6 => json!(1e308),
        7 => json!(1u64 << random.below(63)),
        8 => json!(""),
        9 => json!("a\n\u{1b}[31mb\u{202e}"),
        10 => json!("x".repeat(100_000)),
        11 => (0..100).fold(json!([]), |inner, _| json!([inner])),
        12 => json!({}),
        13 => json!([]),
        14 => json!(true),
        _ => json!(1e-320),
    }
}

/// Changes one node of a JSON value.
fn mutate_json(value: &mut Value, random: &mut Random) -> String {
    let paths = {
        let mut paths = Vec::new();
        collect(value, String::new(), &mut paths);
        paths
    };
    // Half of the time near the root: deep nodes outnumber those that matter.
    let shallow: Vec<&String> = paths.iter().filter(|p| p.matches('/').count() <= 2).collect();
    let path = if random.below(2) == 0 && !shallow.is_empty() {
        shallow[random.below(shallow.len())].clone()
    } else {
        paths[random.below(paths.len())].clone()
    };
    let (parent, key) = path.rsplit_once('/').unwrap_or_default();
    let shown = path.chars().take(80).collect::<String>();
    match random.below(8) {
        0 => {
            if let Some(Value::Object(map)) = value.pointer_mut(parent) {
                map.shift_remove(key);
            }
            format!("{shown} removed")
        }
        1 => {
            if let Some(Value::Array(list)) = value.pointer_mut(&path) {
                let copy = list.clone();
                list.extend(copy);
            }
            format!("{shown} doubled")
        }
        2 => {
            if let Some(Value::Object(map)) = value.pointer_mut(parent)
                && let Some(taken) = map.shift_remove(key)
            {
                map.insert(format!("{key}\n"), taken);
            }
            format!("{shown} renamed")
        }
        _ => {
            let odd = odd_value(random);
            let text = odd.to_string().chars().take(40).collect::<String>();
            if let Some(node) = value.pointer_mut(&path) {
                *node = odd;
            }
            format!("{shown} = {text}")
        }
    }
}

fn collect(value: &Value, path: String, paths: &mut Vec<String>) {
    let segment = |key: &str| format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
    match value {
        Value::Object(map) => map.iter().for_each(|(key, inner)| collect(inner, segment(key), paths)),
        Value::Array(list) => {
            list.iter().enumerate().take(50).for_each(|(i, inner)| collect(inner, segment(&i.to_string()), paths));
        }
        _ => {}
    }
    paths.push(path);
}

/// Changes the header of a safetensors file, or the length that it claims.
fn mutate_header(bytes: &mut Vec<u8>, random: &mut Random) -> String {
    let length = bytes.first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b) as usize);
    let header = bytes.get(8..8usize.saturating_add(length)).and_then(|h| serde_json::from_slice::<Value>(h).ok());
    let (Some(mut header), true) = (header, random.below(5) > 0) else {
        let claimed = random.pick(&[0, 1, 99_999_999, 100_000_001, u64::MAX, i64::MAX as u64]);
        bytes.splice(..8.min(bytes.len()), claimed.to_le_bytes());
        return format!("a header of {claimed} bytes");
    };
    let what = mutate_json(&mut header, random);
    let text = header.to_string().into_bytes();
    let head = [(text.len() as u64).to_le_bytes().to_vec(), text].concat();
    bytes.splice(..8 + length, head);
    what
}
