//! A model's own chat template: Jinja as transformers runs it.
//!
//! <https://huggingface.co/docs/transformers/chat_templating>: `messages`, `add_generation_prompt`, `bos_token`,
//! `eos_token`, `raise_exception`, `strftime_now`, blocks trimmed, and Python's methods of strings and dictionaries.

use std::{collections::BTreeMap, path::Path};

use minijinja::{Environment, ErrorKind, Value as Jinja, context, syntax::SyntaxConfig};
use moerge_checkpoint::Storage;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use moerge_core::{
    error::{Error, Result},
    json_error::json_problem,
    model::source::read_text,
};

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

/// Turns a conversation into the text that the model was trained on.
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// The file that the template is from, for messages.
    file: String,
    bos: String,
    eos: String,
}

/// Most steps of a template: what a malicious one could waste.
const MOST_STEPS: u64 = 5_000_000;

impl ChatTemplate {
    /// Finds the template of the model in `dir`: `chat_template.jinja`, or `chat_template` of `tokenizer_config.json`
    /// (a text, or a list of named ones, of which `default` is taken). `None` where the model has none.
    pub fn open(storage: &dyn Storage, dir: &Path) -> Result<Option<Self>> {
        let exists = |name: &str| storage.facts(&dir.join(name)).is_ok();
        let config_path = dir.join("tokenizer_config.json");
        let config: Map<String, Value> = if exists("tokenizer_config.json") {
            serde_json::from_str(&read_text(storage, &config_path)?).map_err(|e| {
                Error::input(format!("{} is not a JSON object: {}", config_path.display(), json_problem(&e)))
            })?
        } else {
            Map::new()
        };
        let (file, text) = if exists("chat_template.jinja") {
            let path = dir.join("chat_template.jinja");
            (path.display().to_string(), read_text(storage, &path)?)
        } else {
            let text = match config.get("chat_template") {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Array(named)) => {
                    let field = |t: &Value, key: &str| t.get(key).and_then(Value::as_str).map(str::to_owned);
                    let default = named.iter().find(|t| field(t, "name").as_deref() == Some("default"));
                    match default.or(named.first()).and_then(|t| field(t, "template")) {
                        Some(text) => text,
                        None => return Ok(None),
                    }
                }
                _ => return Ok(None),
            };
            (format!("`chat_template` in {}", config_path.display()), text)
        };
        let token = |key: &str| match config.get(key) {
            Some(Value::String(token)) => token.clone(),
            Some(token) => token.get("content").and_then(Value::as_str).unwrap_or_default().to_owned(),
            None => String::new(),
        };
        Self::new(file, text, token("bos_token"), token("eos_token")).map(Some)
    }

    fn new(file: String, text: String, bos: String, eos: String) -> Result<Self> {
        let mut environment = environment();
        environment.add_template_owned("chat", without_generation(&text)).map_err(|e| {
            Error::input(format!("the chat template is broken: {}", detail(&e)))
                .fact("template", format!("{file}{}", place(&e)))
                .hint("mend it, or copy it again from where the model is from")
        })?;
        Ok(Self { environment, file, bos, eos })
    }

    /// The text of `messages`, up to where the assistant begins to answer.
    pub fn render(&self, messages: &[Message]) -> Result<String> {
        let template = self.environment.get_template("chat").map_err(|e| failed(&self.file, &e))?;
        let message = |m: &Message| BTreeMap::from([("role", m.role.clone()), ("content", m.content.clone())]);
        let context = context! {
            messages => messages.iter().map(message).collect::<Vec<_>>(),
            add_generation_prompt => true,
            bos_token => self.bos.clone(),
            eos_token => self.eos.clone(),
        };
        template.render(context).map_err(|e| failed(&self.file, &e))
    }
}

/// What is wrong with a template before it meets a conversation: `line 3: unexpected end of input`.
pub fn template_problem(text: &str) -> Option<String> {
    let error = environment().add_template_owned("chat", without_generation(text)).err()?;
    let line = error.line().map(|line| format!("line {line}: ")).unwrap_or_default();
    Some(format!("{line}{}", detail(&error)))
}

/// Jinja as transformers has it.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        environment.set_syntax(syntax);
    }
    environment.set_fuel(Some(MOST_STEPS));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |message: String| -> Result<Jinja, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", |format: String| strftime_now(&format));
    environment
}

/// The template with `{% generation %}` blocks as plain ones: transformers' own tag, which marks what a model is trained
/// on and changes nothing in the text.
fn without_generation(text: &str) -> String {
    let Ok(tag) = regex_lite::Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}") else { return text.to_owned() };
    let plain = |found: &regex_lite::Captures<'_>| {
        let word = if found.get(2).is_some() { "endif" } else { "if true" };
        format!("{{%{} {word} {}%}}", &found[1], &found[3])
    };
    tag.replace_all(text, plain).into_owned()
}

fn place(error: &minijinja::Error) -> String {
    error.line().map(|line| format!(", line {line}")).unwrap_or_default()
}

fn detail(error: &minijinja::Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), str::to_owned)
}

fn failed(file: &str, error: &minijinja::Error) -> Error {
    Error::input(format!("the chat template fails: {}", detail(error)))
        .fact("template", format!("{file}{}", place(error)))
        .hint("the template may not take a conversation like this one (a system message, for instance)")
}

/// The date of today in `format`, as Llama 3's template asks for it.
fn strftime_now(format: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (year, month, day) = civil((now / 86_400) as i64);
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let name = MONTHS[(month - 1) as usize % 12];
    let fields = [
        ("%Y", year.to_string()),
        ("%m", format!("{month:02}")),
        ("%d", format!("{day:02}")),
        ("%B", name.to_owned()),
        ("%b", name[..3].to_owned()),
        ("%H", format!("{:02}", now / 3600 % 24)),
        ("%M", format!("{:02}", now / 60 % 60)),
        ("%S", format!("{:02}", now % 60)),
    ];
    fields.iter().fold(format.to_owned(), |text, (field, value)| text.replace(field, value))
}

/// Year, month and day of a day counted from 1970-01-01 (Howard Hinnant's `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHATML: &str = "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}\
        {{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}\
        {{'<|im_start|>' + message['role'] + '\n' + message['content'].strip() + '<|im_end|>' + '\n'}}{% endfor %}\
        {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

    fn render(template: &str, messages: &[(&str, &str)]) -> Result<String> {
        let messages: Vec<Message> =
            messages.iter().map(|(r, c)| Message { role: (*r).into(), content: (*c).into() }).collect();
        ChatTemplate::new("t.jinja".into(), template.into(), "<s>".into(), "</s>".into())?.render(&messages)
    }

    #[test]
    fn conversations_become_text() {
        assert_eq!(
            render(CHATML, &[("user", " Hi "), ("assistant", "Ho"), ("user", "?")]).unwrap(),
            "<|im_start|>system\nYou help.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo\
             <|im_end|>\n<|im_start|>user\n?<|im_end|>\n<|im_start|>assistant\n"
        );
        let mistral = "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}\n\
            {{ raise_exception('roles must alternate') }}{% endif %}[INST] {{ m.content }} [/INST]{% endfor %}";
        assert_eq!(render(mistral, &[("user", "Hi")]).unwrap(), "<s>[INST] Hi [/INST]");
        let refused = render(mistral, &[("system", "x")]).unwrap_err().to_string();
        assert!(refused.contains("roles must alternate") && refused.contains("t.jinja, line 2"), "{refused}");
    }

    #[test]
    fn blocks_that_mark_what_a_model_is_trained_on_change_nothing() {
        let template = "{% for m in messages %}{%- generation -%} {{ m.content }} {%- endgeneration %}{% endfor %}";
        assert_eq!(render(template, &[("user", "Hi"), ("assistant", "Ho")]).unwrap(), "HiHo");
    }

    #[test]
    fn a_template_that_is_wrong_names_its_line() {
        let error = |template| render(template, &[("user", "Hi")]).unwrap_err().to_string();
        let broken = error("\n\n{% if %}");
        assert!(broken.contains("line 3") && broken.contains("broken") && !broken.contains("conversation"), "{broken}");
        assert_eq!(template_problem("{{ bos_token }}"), None);
        assert!(template_problem("\n{{ bos_token }").is_some_and(|what| what.starts_with("line 2: ")));
        assert!(
            error("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}").contains("fails")
        );
    }

    #[test]
    fn days_become_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(20_780), (2026, 11, 23));
    }
}
