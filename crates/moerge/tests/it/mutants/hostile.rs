//! Hostile files that random changes hardly ever make: well-formed, and each aimed at one reader.

use std::{fs, path::Path, sync::LazyLock};

use serde_json::{Value, json};

use super::{configs, random::Random, templates, tokenizers};

/// One hostile value.
#[derive(Debug, Clone)]
pub struct Hostile {
    /// The file it goes into.
    pub file: &'static str,
    /// Its key in the file; a file that is not JSON is replaced.
    key: &'static str,
    value: Value,
}

const TEMPLATE: &str = "chat_template.jinja";
const ADAPTER: &str = "adapter_config.json";

/// All of them.
pub fn all() -> &'static [Hostile] {
    static ALL: LazyLock<Vec<Hostile>> = LazyLock::new(build);
    &ALL
}

fn build() -> Vec<Hostile> {
    let template = |text: String| (TEMPLATE, "", Value::String(text));
    let of = |file| move |(key, value)| (file, key, value);
    let all = tokenizers::components().into_iter().map(of("tokenizer.json"));
    let all = all.chain(templates::templates().into_iter().map(template));
    let all = all.chain(configs::model().into_iter().map(of("config.json")));
    let all = all.chain(configs::generation().into_iter().map(of("generation_config.json")));
    let all = all.chain(configs::tokenizer().into_iter().map(of("tokenizer_config.json")));
    let all = all.chain(configs::adapter().into_iter().map(of(ADAPTER)));
    all.map(|(file, key, value)| Hostile { file, key, value }).collect()
}

/// One of them, each file as likely as another.
pub fn pick(random: &mut Random, adapter: bool) -> Hostile {
    let files: &[&str] = match adapter {
        true => &[ADAPTER],
        false => &[
            "tokenizer.json",
            "tokenizer.json",
            TEMPLATE,
            "config.json",
            "generation_config.json",
            "tokenizer_config.json",
        ],
    };
    let file = random.pick(files);
    let of_the_file: Vec<&Hostile> = all().iter().filter(|hostile| hostile.file == file).collect();
    of_the_file[random.below(of_the_file.len())].clone()
}

impl Hostile {
    /// Puts it into the folder; what it was.
    pub fn write(&self, dir: &Path) -> String {
        let path = dir.join(self.file);
        let shown = self.value.to_string().chars().take(120).collect::<String>();
        // An earlier change may have made it a pipe or a link to a device: neither is read, and nothing is written through.
        let file = path.is_file().then(|| fs::read(&path)).and_then(Result::ok);
        let _ = fs::remove_file(&path);
        if self.file == TEMPLATE {
            fs::write(path, self.value.as_str().unwrap()).unwrap();
            return format!("{}: {shown}", self.file);
        }
        let mut file = file.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or(json!({}));
        if let Value::Object(entries) = &mut file {
            entries.insert(self.key.into(), self.value.clone());
        }
        fs::write(path, file.to_string()).unwrap();
        format!("{}: {} = {shown}", self.file, self.key)
    }
}
