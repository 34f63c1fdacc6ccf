//! Expressions: operators by precedence, from tuples and conditions down to literals.

use super::{Parsed, Parser, SPECIAL_NAMES};
use crate::jinja::{
    lexer::Token,
    syntax::{Binary, Comparison, Expr, Literal},
};

impl Parser {
    /// An expression, or a tuple of several separated by commas.
    pub(super) fn tuple(&mut self) -> Parsed<Expr> {
        self.tuple_of(Self::expression)
    }

    pub(super) fn tuple_of(&mut self, item: fn(&mut Self) -> Parsed<Expr>) -> Parsed<Expr> {
        let first = item(self)?;
        if !self.is_op(",") {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.skip_op(",") {
            let ends = matches!(self.peek(), None | Some(Token::BlockEnd | Token::VariableEnd))
                || self.is_op(")")
                || self.is_name("if")
                || self.is_name("recursive");
            if ends {
                break;
            }
            items.push(item(self)?);
        }
        Ok(Expr::Tuple(items))
    }

    pub(super) fn expression(&mut self) -> Parsed<Expr> {
        self.nested(|parser| {
            let mut value = parser.or()?;
            let mut links = 0;
            while parser.skip_name("if") {
                parser.chain(&mut links)?;
                let condition = Box::new(parser.or()?);
                let otherwise = if parser.skip_name("else") { Some(Box::new(parser.expression()?)) } else { None };
                value = Expr::Conditional { condition, then: Box::new(value), otherwise };
            }
            Ok(value)
        })
    }

    pub(super) fn or(&mut self) -> Parsed<Expr> {
        let mut left = self.and()?;
        let mut links = 0;
        while self.skip_name("or") {
            self.chain(&mut links)?;
            left = Expr::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Parsed<Expr> {
        let mut left = self.not()?;
        let mut links = 0;
        while self.skip_name("and") {
            self.chain(&mut links)?;
            left = Expr::And(Box::new(left), Box::new(self.not()?));
        }
        Ok(left)
    }

    pub(super) fn not(&mut self) -> Parsed<Expr> {
        if self.skip_name("not") {
            return Ok(Expr::Not(Box::new(self.nested(Self::not)?)));
        }
        self.compare()
    }

    fn compare(&mut self) -> Parsed<Expr> {
        let first = self.sum()?;
        let mut rest = Vec::new();
        let mut links = 0;
        loop {
            let comparison = match self.peek() {
                Some(Token::Op("==")) => Comparison::Eq,
                Some(Token::Op("!=")) => Comparison::Ne,
                Some(Token::Op("<")) => Comparison::Lt,
                Some(Token::Op("<=")) => Comparison::Le,
                Some(Token::Op(">")) => Comparison::Gt,
                Some(Token::Op(">=")) => Comparison::Ge,
                Some(Token::Name(name)) if name == "in" => Comparison::In,
                Some(Token::Name(name)) if name == "not" => {
                    match self.tokens.get(self.at + 1) {
                        Some((Token::Name(name), _)) if name == "in" => self.at += 1,
                        _ => break,
                    }
                    Comparison::NotIn
                }
                _ => break,
            };
            self.at += 1;
            self.chain(&mut links)?;
            rest.push((comparison, self.sum()?));
        }
        Ok(if rest.is_empty() { first } else { Expr::Compare(Box::new(first), rest) })
    }

    fn binary(&mut self, operators: &[(&'static str, Binary)], operand: fn(&mut Self) -> Parsed<Expr>) -> Parsed<Expr> {
        let mut left = operand(self)?;
        let mut links = 0;
        while let Some((_, operator)) = operators.iter().find(|(op, _)| self.is_op(op)) {
            self.at += 1;
            self.chain(&mut links)?;
            left = Expr::Binary(*operator, Box::new(left), Box::new(operand(self)?));
        }
        Ok(left)
    }

    fn sum(&mut self) -> Parsed<Expr> {
        self.binary(&[("+", Binary::Add), ("-", Binary::Sub)], Self::concat)
    }

    pub(super) fn concat(&mut self) -> Parsed<Expr> {
        let first = self.product()?;
        if !self.is_op("~") {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.skip_op("~") {
            parts.push(self.product()?);
        }
        Ok(Expr::Concat(parts))
    }

    fn product(&mut self) -> Parsed<Expr> {
        let operators = [("*", Binary::Mul), ("/", Binary::Div), ("//", Binary::FloorDiv), ("%", Binary::Rem)];
        self.binary(&operators, Self::power)
    }

    fn power(&mut self) -> Parsed<Expr> {
        self.binary(&[("**", Binary::Pow)], |parser| parser.unary(true))
    }

    pub(super) fn unary(&mut self, with_filters: bool) -> Parsed<Expr> {
        let value = if self.skip_op("-") {
            Expr::Negative(Box::new(self.nested(|parser| parser.unary(false))?))
        } else if self.skip_op("+") {
            Expr::Positive(Box::new(self.nested(|parser| parser.unary(false))?))
        } else {
            self.primary()?
        };
        let value = self.postfix(value)?;
        if !with_filters {
            return Ok(value);
        }
        self.filters(Some(value), false)?.ok_or_else(|| self.unexpected("an expression"))
    }

    pub(super) fn primary(&mut self) -> Parsed<Expr> {
        let value = match self.peek() {
            Some(Token::Name(name)) => match name.as_str() {
                "true" | "True" => Expr::Literal(Literal::Bool(true)),
                "false" | "False" => Expr::Literal(Literal::Bool(false)),
                "none" | "None" => Expr::Literal(Literal::None),
                name => {
                    let special = SPECIAL_NAMES.iter().position(|special| *special == name);
                    let name = Expr::Name(name.to_owned());
                    if let Some(used) = special.and_then(|at| self.used.get_mut(at)) {
                        *used = true;
                    }
                    name
                }
            },
            Some(Token::Int(n)) => Expr::Literal(Literal::Int(*n)),
            Some(Token::Float(x)) => Expr::Literal(Literal::Float(*x)),
            Some(Token::Str(_)) => {
                let mut text = String::new();
                while let Some(Token::Str(part)) = self.peek() {
                    text.push_str(part);
                    self.at += 1;
                }
                return Ok(Expr::Literal(Literal::Str(text)));
            }
            Some(Token::Op("(")) => {
                self.at += 1;
                if self.skip_op(")") {
                    return Ok(Expr::Tuple(Vec::new()));
                }
                let value = self.tuple()?;
                self.expect_op(")")?;
                return Ok(value);
            }
            Some(Token::Op("[")) => {
                self.at += 1;
                return Ok(Expr::List(self.items("]", Self::expression)?));
            }
            Some(Token::Op("{")) => {
                self.at += 1;
                let pair = |parser: &mut Self| {
                    let key = parser.expression()?;
                    parser.expect_op(":")?;
                    Ok((key, parser.expression()?))
                };
                return Ok(Expr::Dict(self.items("}", pair)?));
            }
            _ => return Err(self.unexpected("an expression")),
        };
        self.at += 1;
        Ok(value)
    }
}
