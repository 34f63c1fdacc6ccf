//! Statements: text, `{{ }}` and the blocks of `{% %}`.

use super::{Parsed, Parser};
use crate::jinja::{
    Fault,
    lexer::Token,
    syntax::{Expr, ForLoop, MacroBody, Stmt, StmtKind, Target},
};

impl Parser {
    /// Statements up to a tag named in `ends`; its name is the next token. Without `ends`, all statements.
    pub(super) fn statements(&mut self, ends: &[&str]) -> Parsed<Vec<Stmt>> {
        self.nested(|parser| {
            let mut statements = Vec::new();
            loop {
                let line = parser.line();
                parser.links = 0;
                let kind = match parser.next() {
                    None if ends.is_empty() => return Ok(statements),
                    None => return Err(Fault::template(format!("the template ends where `{}` is expected", ends[0]))),
                    Some(Token::Text(text)) => StmtKind::Text(text),
                    Some(Token::VariableStart) => {
                        let value = parser.tuple()?;
                        parser.expect_token(&Token::VariableEnd, "`}}`")?;
                        StmtKind::Output(value)
                    }
                    Some(Token::BlockStart) => {
                        if ends.iter().any(|end| parser.is_name(end)) {
                            return Ok(statements);
                        }
                        parser.block()?
                    }
                    Some(_) => return Err(Fault::template("unexpected token")),
                };
                statements.push(Stmt { line, kind });
            }
        })
    }

    /// The body of a block up to `end`, which is consumed with its `%}`.
    fn body(&mut self, end: &str) -> Parsed<Vec<Stmt>> {
        self.block_end()?;
        let body = self.statements(&[end])?;
        self.at += 1;
        self.block_end()?;
        Ok(body)
    }

    fn block(&mut self) -> Parsed<StmtKind> {
        let name = self.expect_name()?;
        match name.as_str() {
            "if" => self.if_block(),
            "for" => self.for_block(),
            "set" => self.set_block(),
            "macro" => {
                let name = self.expect_name()?;
                let parameters = self.parameters()?;
                Ok(StmtKind::Macro(self.macro_body(name, parameters, "endmacro")?))
            }
            "call" => {
                let parameters = if self.is_op("(") { self.parameters()? } else { Vec::new() };
                let call = self.expression()?;
                if !matches!(call, Expr::Call(..)) {
                    return Err(self.unexpected("a call"));
                }
                Ok(StmtKind::CallBlock(call, self.macro_body("caller".into(), parameters, "endcall")?))
            }
            "filter" => {
                let filter = self.filters(None, true)?;
                let body = self.body("endfilter")?;
                Ok(StmtKind::FilterBlock(filter.ok_or_else(|| self.unexpected("a filter"))?, body))
            }
            "with" => {
                let mut values = Vec::new();
                while self.peek() != Some(&Token::BlockEnd) {
                    if !values.is_empty() {
                        self.expect_op(",")?;
                    }
                    let target = self.target(false)?;
                    self.expect_op("=")?;
                    values.push((target, self.expression()?));
                }
                Ok(StmtKind::With(values, self.body("endwith")?))
            }
            "generation" => Ok(StmtKind::Scoped(self.body("endgeneration")?)),
            "break" | "continue" => {
                self.block_end()?;
                Ok(if name == "break" { StmtKind::Break } else { StmtKind::Continue })
            }
            "block" => {
                self.expect_name()?;
                self.skip_name("scoped");
                self.block_end()?;
                let body = self.statements(&["endblock"])?;
                self.at += 1;
                if matches!(self.peek(), Some(Token::Name(_))) {
                    self.at += 1;
                }
                self.block_end()?;
                Ok(StmtKind::Scoped(body))
            }
            "include" | "import" | "from" | "extends" => {
                Err(Fault::template(format!("`{name}` loads other templates, which a chat template cannot")))
            }
            _ => Err(Fault::template(format!("there is no tag `{}`", moerge_core::suggest::shorten(&name)))),
        }
    }

    fn macro_body(&mut self, name: String, parameters: Vec<(String, Option<Expr>)>, end: &str) -> Parsed<MacroBody> {
        let outside = std::mem::take(&mut self.used);
        let body = self.body(end)?;
        let [uses_varargs, uses_kwargs, uses_caller] = std::mem::replace(&mut self.used, outside);
        Ok(MacroBody { name, parameters, body, uses_varargs, uses_kwargs, uses_caller })
    }

    fn if_block(&mut self) -> Parsed<StmtKind> {
        let mut branches = Vec::new();
        loop {
            let condition = self.tuple()?;
            self.block_end()?;
            branches.push((condition, self.statements(&["elif", "else", "endif"])?));
            if !self.skip_name("elif") {
                break;
            }
        }
        let mut otherwise = Vec::new();
        if self.skip_name("else") {
            self.block_end()?;
            otherwise = self.statements(&["endif"])?;
        }
        self.at += 1;
        self.block_end()?;
        Ok(StmtKind::If(branches, otherwise))
    }

    fn for_block(&mut self) -> Parsed<StmtKind> {
        let target = self.targets(false)?;
        if !self.skip_name("in") {
            return Err(self.unexpected("`in`"));
        }
        let items = self.tuple_of(Self::or)?;
        let condition = if self.skip_name("if") { Some(self.expression()?) } else { None };
        let recursive = self.skip_name("recursive");
        self.block_end()?;
        let body = self.statements(&["else", "endfor"])?;
        let mut otherwise = Vec::new();
        if self.skip_name("else") {
            self.block_end()?;
            otherwise = self.statements(&["endfor"])?;
        }
        self.at += 1;
        self.block_end()?;
        Ok(StmtKind::For(Box::new(ForLoop { target, items, condition, body, otherwise, recursive })))
    }

    fn set_block(&mut self) -> Parsed<StmtKind> {
        let target = self.targets(true)?;
        if self.skip_op("=") {
            let value = self.tuple()?;
            self.block_end()?;
            return Ok(StmtKind::Set(target, value));
        }
        let filter = self.filters(None, false)?;
        Ok(StmtKind::SetBlock(target, filter, self.body("endset")?))
    }

    pub(super) fn targets(&mut self, with_namespace: bool) -> Parsed<Target> {
        let mut targets = vec![self.target(with_namespace)?];
        let mut tuple = false;
        while self.skip_op(",") {
            tuple = true;
            if self.is_name("in") || self.is_op("=") {
                break;
            }
            targets.push(self.target(with_namespace)?);
        }
        match targets.pop() {
            Some(only) if !tuple => Ok(only),
            last => Ok(Target::Tuple(targets.into_iter().chain(last).collect())),
        }
    }

    pub(super) fn target(&mut self, with_namespace: bool) -> Parsed<Target> {
        if self.skip_op("(") {
            let target = self.nested(|parser| parser.targets(with_namespace))?;
            self.expect_op(")")?;
            return Ok(target);
        }
        let name = self.expect_name()?;
        if matches!(name.as_str(), "true" | "false" | "none" | "True" | "False" | "None" | "loop" | "self") {
            return Err(Fault::template(format!("cannot assign to `{name}`")));
        }
        if with_namespace && self.skip_op(".") {
            return Ok(Target::Attribute(name, self.expect_name()?));
        }
        Ok(Target::Name(name))
    }

    fn parameters(&mut self) -> Parsed<Vec<(String, Option<Expr>)>> {
        self.expect_op("(")?;
        let mut parameters = Vec::new();
        while !self.skip_op(")") {
            if !parameters.is_empty() {
                self.expect_op(",")?;
                if self.skip_op(")") {
                    break;
                }
            }
            let name = self.expect_name()?;
            let default = if self.skip_op("=") { Some(self.expression()?) } else { None };
            parameters.push((name, default));
        }
        Ok(parameters)
    }
}
