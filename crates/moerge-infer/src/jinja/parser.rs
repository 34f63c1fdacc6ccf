//! Parses tokens into a syntax tree. Nesting and the length of operator chains are bounded, since both add depth.

use super::{
    Fault,
    lexer::{Token, tokens},
    syntax::{Arguments, Binary, Comparison, Expr, ForLoop, Literal, MacroBody, Stmt, StmtKind, Target},
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

    /// Statements up to a tag named in `ends`; its name is the next token. Without `ends`, all statements.
    fn statements(&mut self, ends: &[&str]) -> Parsed<Vec<Stmt>> {
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

    fn targets(&mut self, with_namespace: bool) -> Parsed<Target> {
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

    fn target(&mut self, with_namespace: bool) -> Parsed<Target> {
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

    /// An expression, or a tuple of several separated by commas.
    fn tuple(&mut self) -> Parsed<Expr> {
        self.tuple_of(Self::expression)
    }

    fn tuple_of(&mut self, item: fn(&mut Self) -> Parsed<Expr>) -> Parsed<Expr> {
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

    fn expression(&mut self) -> Parsed<Expr> {
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

    fn or(&mut self) -> Parsed<Expr> {
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

    fn not(&mut self) -> Parsed<Expr> {
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

    fn concat(&mut self) -> Parsed<Expr> {
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

    fn unary(&mut self, with_filters: bool) -> Parsed<Expr> {
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

    fn primary(&mut self) -> Parsed<Expr> {
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

    /// Items separated by commas; consumes `end`.
    fn items<T>(&mut self, end: &str, item: impl Fn(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
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

    fn postfix(&mut self, mut value: Expr) -> Parsed<Expr> {
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

    fn subscript(&mut self, value: Expr) -> Parsed<Expr> {
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

    fn arguments(&mut self) -> Parsed<Arguments> {
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
    fn filters(&mut self, mut value: Option<Expr>, mut bare: bool) -> Parsed<Option<Expr>> {
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

    fn dotted(&mut self) -> Parsed<String> {
        let mut name = self.expect_name()?;
        while self.skip_op(".") {
            name = format!("{name}.{}", self.expect_name()?);
        }
        Ok(name)
    }

    fn test(&mut self, operand: Expr) -> Parsed<Expr> {
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
