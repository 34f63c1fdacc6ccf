//! Parses tokens into a syntax tree. Nesting and the length of operator chains are bounded, since both add depth.

mod expressions;
mod postfix;
mod statements;

use super::{
    Fault,
    lexer::{Token, tokens},
    syntax::Stmt,
};

/// Maximum nesting of brackets, unary operators, conditions and blocks combined.
const MAX_NESTING: usize = 120;
/// Maximum number of operators, attributes, calls and filters in one chain.
const MAX_CHAIN: usize = 250;
/// Maximum number of operators, attributes, calls and filters in one tag. Together with the nesting it bounds the depth
/// of the tree.
const MAX_LINKS: usize = 2000;

/// Names that a macro defines if its body uses them.
const SPECIAL_NAMES: [&str; 3] = ["varargs", "kwargs", "caller"];

type Parsed<T> = Result<T, Fault>;

/// Parses a template. The error comes with its line.
pub fn parse(source: &str) -> Result<Vec<Stmt>, (Fault, usize)> {
    let mut parser = Parser { tokens: tokens(source)?, at: 0, nesting: 0, links: 0, used: [false; 3] };
    match parser.statements(&[]) {
        Ok(statements) => Ok(statements),
        Err(fault) => Err((fault, parser.line())),
    }
}

struct Parser {
    tokens: Vec<(Token, usize)>,
    at: usize,
    nesting: usize,
    /// Operators so far in this tag.
    links: usize,
    /// Which of [`SPECIAL_NAMES`] the current macro uses.
    used: [bool; 3],
}

impl Parser {
    fn line(&self) -> usize {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |(_, line)| *line)
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(token, _)| token)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).map(|(token, _)| token.clone());
        self.at += 1;
        token
    }

    fn is_op(&self, op: &str) -> bool {
        matches!(self.peek(), Some(Token::Op(found)) if *found == op)
    }

    fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Some(Token::Name(found)) if found == name)
    }

    fn skip_op(&mut self, op: &str) -> bool {
        let found = self.is_op(op);
        self.at += usize::from(found);
        found
    }

    fn skip_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        self.at += usize::from(found);
        found
    }

    fn unexpected(&self, expected: &str) -> Fault {
        let found = match self.peek() {
            None => "the end of the template".to_owned(),
            Some(Token::Text(_)) => "text".to_owned(),
            Some(Token::BlockStart) => "`{%`".to_owned(),
            Some(Token::BlockEnd) => "`%}`".to_owned(),
            Some(Token::VariableStart) => "`{{`".to_owned(),
            Some(Token::VariableEnd) => "`}}`".to_owned(),
            Some(Token::Name(name)) => format!("`{}`", moerge_core::suggest::shorten(name)),
            Some(Token::Str(text)) => format!("the string {:?}", moerge_core::suggest::shorten(text)),
            Some(Token::Int(n)) => format!("{n}"),
            Some(Token::Float(x)) => format!("{x}"),
            Some(Token::Op(op)) => format!("`{op}`"),
        };
        Fault::template(format!("expected {expected}, found {found}"))
    }

    fn expect_op(&mut self, op: &str) -> Parsed<()> {
        if self.skip_op(op) { Ok(()) } else { Err(self.unexpected(&format!("`{op}`"))) }
    }

    fn expect_name(&mut self) -> Parsed<String> {
        match self.peek() {
            Some(Token::Name(name)) => {
                let name = name.clone();
                self.at += 1;
                Ok(name)
            }
            _ => Err(self.unexpected("a name")),
        }
    }

    fn expect_token(&mut self, token: &Token, what: &str) -> Parsed<()> {
        if self.peek() == Some(token) {
            self.at += 1;
            return Ok(());
        }
        Err(self.unexpected(what))
    }

    fn block_end(&mut self) -> Parsed<()> {
        self.expect_token(&Token::BlockEnd, "`%}`")
    }

    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.nesting >= MAX_NESTING {
            return Err(Fault::limit(format!("it is nested more than {MAX_NESTING} levels deep")));
        }
        self.nesting += 1;
        let parsed = parse(self);
        self.nesting -= 1;
        parsed
    }

    fn chain(&mut self, links: &mut usize) -> Parsed<()> {
        *links += 1;
        self.links += 1;
        if *links > MAX_CHAIN {
            return Err(Fault::limit(format!("an expression has more than {MAX_CHAIN} operators in a row")));
        }
        if self.links > MAX_LINKS {
            return Err(Fault::limit(format!("a tag has more than {MAX_LINKS} operators")));
        }
        Ok(())
    }
}
