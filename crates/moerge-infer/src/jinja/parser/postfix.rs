//! What follows an operand: attributes, subscripts, calls, filters and tests, with their arguments.

use super::{Parsed, Parser};
use crate::jinja::{
    lexer::Token,
    syntax::{Arguments, Expr, Literal},
};

impl Parser {
    /// Items separated by commas; consumes `end`.
    pub(super) fn items<T>(&mut self, end: &str, item: impl Fn(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut items = Vec::new();
        while !self.skip_op(end) {
            if !items.is_empty() {
                self.expect_op(",")?;
                if self.skip_op(end) {
                    break;
                }
            }
            items.push(item(self)?);
        }
        Ok(items)
    }

    pub(super) fn postfix(&mut self, mut value: Expr) -> Parsed<Expr> {
        let mut links = 0;
        loop {
            if self.skip_op(".") {
                value = match self.next() {
                    Some(Token::Name(name)) => Expr::Attribute(Box::new(value), name),
                    Some(Token::Int(n)) => Expr::Item(Box::new(value), Box::new(Expr::Literal(Literal::Int(n)))),
                    _ => {
                        self.at -= 1;
                        return Err(self.unexpected("a name"));
                    }
                };
            } else if self.skip_op("[") {
                value = self.subscript(value)?;
            } else if self.is_op("(") {
                value = Expr::Call(Box::new(value), Box::new(self.arguments()?));
            } else {
                return Ok(value);
            }
            self.chain(&mut links)?;
        }
    }

    pub(super) fn subscript(&mut self, value: Expr) -> Parsed<Expr> {
        let mut bounds = [None, None, None];
        let mut colons = 0;
        loop {
            if self.skip_op("]") {
                break;
            }
            if self.skip_op(":") {
                colons += 1;
                if colons > 2 {
                    return Err(self.unexpected("`]`"));
                }
                continue;
            }
            if bounds[colons].is_some() {
                return Err(self.unexpected("`]`"));
            }
            bounds[colons] = Some(Box::new(self.expression()?));
        }
        match (colons, bounds) {
            (0, [Some(index), _, _]) => Ok(Expr::Item(Box::new(value), index)),
            (0, _) => Err(self.unexpected("an index")),
            (_, bounds) => Ok(Expr::Slice(Box::new(value), bounds)),
        }
    }

    pub(super) fn arguments(&mut self) -> Parsed<Arguments> {
        self.expect_op("(")?;
        let mut arguments = Arguments::default();
        let mut first = true;
        while !self.skip_op(")") {
            if !first {
                self.expect_op(",")?;
                if self.skip_op(")") {
                    break;
                }
            }
            first = false;
            let named = matches!(self.peek(), Some(Token::Name(_)))
                && matches!(self.tokens.get(self.at + 1), Some((Token::Op("="), _)));
            if self.skip_op("*") {
                arguments.star = Some(self.expression()?);
            } else if self.skip_op("**") {
                arguments.double_star = Some(self.expression()?);
            } else if named {
                let name = self.expect_name()?;
                self.at += 1;
                arguments.named.push((name, self.expression()?));
            } else if arguments.named.is_empty() && arguments.star.is_none() && arguments.double_star.is_none() {
                arguments.positional.push(self.expression()?);
            } else {
                return Err(self.unexpected("a named argument"));
            }
        }
        Ok(arguments)
    }

    /// Filters, tests and calls after `value`. `bare`: the first filter has no leading `|`.
    pub(super) fn filters(&mut self, mut value: Option<Expr>, mut bare: bool) -> Parsed<Option<Expr>> {
        let mut links = 0;
        loop {
            if bare || self.skip_op("|") {
                bare = false;
                let name = self.dotted()?;
                let arguments = if self.is_op("(") { self.arguments()? } else { Arguments::default() };
                value = Some(Expr::Filter(value.map(Box::new), name, Box::new(arguments)));
            } else if self.is_name("is") {
                self.at += 1;
                let operand = value.ok_or_else(|| self.unexpected("a filter"))?;
                value = Some(self.test(operand)?);
            } else if self.is_op("(") && value.is_some() {
                let arguments = Box::new(self.arguments()?);
                value = value.map(|callee| Expr::Call(Box::new(callee), arguments));
            } else {
                return Ok(value);
            }
            self.chain(&mut links)?;
        }
    }

    pub(super) fn dotted(&mut self) -> Parsed<String> {
        let mut name = self.expect_name()?;
        while self.skip_op(".") {
            name = format!("{name}.{}", self.expect_name()?);
        }
        Ok(name)
    }

    pub(super) fn test(&mut self, operand: Expr) -> Parsed<Expr> {
        let negated = self.skip_name("not");
        let name = self.dotted()?;
        let takes_operand = match self.peek() {
            Some(Token::Name(name)) => {
                !matches!(name.as_str(), "else" | "or" | "and" | "if" | "is" | "in" | "not" | "recursive")
            }
            Some(Token::Str(_) | Token::Int(_) | Token::Float(_)) => true,
            Some(Token::Op(op)) => matches!(*op, "[" | "{"),
            _ => false,
        };
        let mut arguments = Arguments::default();
        if self.is_op("(") {
            arguments = self.arguments()?;
        } else if takes_operand {
            let operand = self.primary()?;
            arguments.positional.push(self.postfix(operand)?);
        }
        let test = Expr::Test(Box::new(operand), name, Box::new(arguments));
        Ok(if negated { Expr::Not(Box::new(test)) } else { test })
    }
}
