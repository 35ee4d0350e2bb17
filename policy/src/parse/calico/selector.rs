//! Calico's selector expressions: `tier == 'front' && !(has(legacy) || env in {'dev', 'test'})`.
//!
//! Source: projectcalico/calico, `libcalico-go/lib/selector/{tokenizer/tokenizer.go,parser/parser.go}` for what is taken, and
//! the comment on `Selector` in `api/pkg/apis/projectcalico/v3/globalnetworkpolicy.go` for what it means. `||` binds weaker
//! than `&&`, and `!` binds to what stands next. Texts have no escapes. White space is blanks and tabs only.

use std::collections::BTreeSet;

use crate::selector::{Expression, Requirement, Selector, Test};

/// How long an expression may be, in bytes.
const MAX_LENGTH: usize = 16 * 1024;

/// How deep parentheses may be nested.
const MAX_DEPTH: usize = 64;

/// How long a label's key may be, as Calico has it.
const MAX_KEY: usize = 512;

/// What an expression selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Selected {
    /// What has such labels. An empty selector, and `all()`: everything that has labels.
    Labels(Selector),
    /// `global()`, alone: what is in no namespace.
    Global,
}

/// What is wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub message: String,
    /// In characters, from 1.
    pub position: usize,
}

/// Reads an expression.
pub(crate) fn parse(text: &str) -> Result<Selected, Wrong> {
    let mut parser = Parser { text, at: 0 };
    if text.len() > MAX_LENGTH {
        return Err(parser.wrong(&format!("the expression is longer than {MAX_LENGTH} bytes")));
    }
    parser.skip_blanks();
    if parser.rest().is_empty() {
        return Ok(Selected::Labels(Selector::default()));
    }
    if parser.take_call("global") {
        parser.skip_blanks();
        return if parser.rest().is_empty() {
            Ok(Selected::Global)
        } else {
            Err(parser.wrong("global() stands alone, and here something follows"))
        };
    }
    let expression = parser.any_of(0)?;
    parser.skip_blanks();
    if parser.rest().is_empty() {
        Ok(Selected::Labels(Selector::of(expression)))
    } else {
        Err(parser.wrong("the expression should end, or go on with && or ||,"))
    }
}

struct Parser<'t> {
    text: &'t str,
    /// In bytes.
    at: usize,
}

impl<'t> Parser<'t> {
    /// Terms between `||`.
    fn any_of(&mut self, depth: usize) -> Result<Expression, Wrong> {
        let mut terms = vec![self.all_of(depth)?];
        while self.take("||") {
            terms.push(self.all_of(depth)?);
        }
        if terms.contains(&everything()) {
            return Ok(everything());
        }
        Ok(only(&mut terms).unwrap_or(Expression::Or(terms)))
    }

    /// Terms between `&&`.
    fn all_of(&mut self, depth: usize) -> Result<Expression, Wrong> {
        let mut terms = vec![self.term(depth)?];
        while self.take("&&") {
            terms.push(self.term(depth)?);
        }
        terms.retain(|term| *term != everything());
        Ok(only(&mut terms).unwrap_or(Expression::And(terms)))
    }

    fn term(&mut self, depth: usize) -> Result<Expression, Wrong> {
        let mut is_negated = false;
        while !self.next_is("!=") && self.take("!") {
            is_negated = !is_negated;
        }
        let term = self.operand(depth)?;
        Ok(match term {
            term if !is_negated => term,
            Expression::Label(Requirement { key, test: Test::Exists }) => {
                Expression::Label(Requirement { key, test: Test::DoesNotExist })
            }
            term => Expression::Not(Box::new(term)),
        })
    }

    fn operand(&mut self, depth: usize) -> Result<Expression, Wrong> {
        if self.take("(") {
            if depth == MAX_DEPTH {
                return Err(self.wrong(&format!("parentheses are nested more than {MAX_DEPTH} deep")));
            }
            let inner = self.any_of(depth + 1)?;
            return if self.take(")") { Ok(inner) } else { Err(self.wrong("a closing ) is missing")) };
        }
        if self.take_call("all") {
            return Ok(everything());
        }
        if self.next_is("global(") {
            return Err(self.wrong("global() stands alone, and here it is part of an expression"));
        }
        if self.take("has(") {
            let key = self.key()?;
            return if self.take(")") {
                Ok(Expression::Label(Requirement { key, test: Test::Exists }))
            } else {
                Err(self.wrong("a closing ) is missing"))
            };
        }
        let key = self.key()?;
        let test = self.test()?;
        Ok(Expression::Label(Requirement { key, test }))
    }

    fn key(&mut self) -> Result<String, Wrong> {
        self.skip_blanks();
        let is_of_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-');
        let rest = self.rest();
        let length = rest.find(|c| !is_of_key(c)).unwrap_or(rest.len());
        if length == 0 {
            return Err(self.wrong("a label's key, has(, all(, ! or ( should stand"));
        }
        if length > MAX_KEY {
            return Err(self.wrong(&format!("a label's key is longer than {MAX_KEY} characters")));
        }
        self.at += length;
        Ok(rest[..length].to_owned())
    }

    /// What follows a key. Words need no blank behind them: `a in{'b'}` is fine with Calico.
    fn test(&mut self) -> Result<Test, Wrong> {
        if self.take("==") {
            return Ok(Test::In(BTreeSet::from([self.literal()?])));
        }
        if self.take("!=") {
            return Ok(Test::NotIn(BTreeSet::from([self.literal()?])));
        }
        if self.take("contains") {
            return Ok(Test::Contains(self.literal()?));
        }
        if self.take_both("starts", "with") {
            return Ok(Test::StartsWith(self.literal()?));
        }
        if self.take_both("ends", "with") {
            return Ok(Test::EndsWith(self.literal()?));
        }
        if self.take_both("not", "in") {
            return Ok(Test::NotIn(self.set()?));
        }
        if self.take("in") {
            return Ok(Test::In(self.set()?));
        }
        Err(self.wrong("one of ==, !=, in, not in, contains, starts with and ends with should stand"))
    }

    /// `{'a', 'b'}`; a comma may follow the last one.
    fn set(&mut self) -> Result<BTreeSet<String>, Wrong> {
        if !self.take("{") {
            return Err(self.wrong("a set in braces should stand"));
        }
        let mut values = BTreeSet::new();
        while !self.take("}") {
            values.insert(self.literal()?);
            if !self.take(",") && !self.next_is("}") {
                return Err(self.wrong("a comma or a closing } should stand"));
            }
        }
        Ok(values)
    }

    fn literal(&mut self) -> Result<String, Wrong> {
        self.skip_blanks();
        let Some(quote) = self.rest().chars().next().filter(|c| matches!(c, '\'' | '"')) else {
            return Err(self.wrong("a text in quotes should stand"));
        };
        let inner = &self.rest()[1..];
        let Some(length) = inner.find(quote) else {
            return Err(self.wrong("a text in quotes has no end that begins"));
        };
        self.at += length + 2;
        Ok(inner[..length].to_owned())
    }

    /// `name()`, with blanks between the parentheses only.
    fn take_call(&mut self, name: &str) -> bool {
        let before = self.at;
        if self.take(name) && self.rest().starts_with('(') && self.take("(") && self.take(")") {
            return true;
        }
        self.at = before;
        false
    }

    fn take_both(&mut self, first: &str, second: &str) -> bool {
        let before = self.at;
        if self.take(first) && self.take(second) {
            return true;
        }
        self.at = before;
        false
    }

    fn take(&mut self, token: &str) -> bool {
        let is_next = self.next_is(token);
        if is_next {
            self.at += token.len();
        }
        is_next
    }

    fn next_is(&mut self, token: &str) -> bool {
        self.skip_blanks();
        self.rest().starts_with(token)
    }

    fn skip_blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t']).len();
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn wrong(&self, message: &str) -> Wrong {
        Wrong { message: message.to_owned(), position: self.text[..self.at].chars().count() + 1 }
    }
}

/// What `all()` means.
fn everything() -> Expression {
    Expression::And(Vec::new())
}

/// The one term there is.
fn only(terms: &mut Vec<Expression>) -> Option<Expression> {
    if terms.len() == 1 { terms.pop() } else { None }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

    use super::*;
    use crate::label::Labels;

    fn selects(text: &str, labels: &[(&str, &str)]) -> bool {
        let labels: Labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        match parse(text) {
            Ok(Selected::Labels(selector)) => selector.matches(&labels),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn expressions_select_as_calico_documents_them() {
        let labels = [("a", "b"), ("tier", "front-end"), ("empty", ""), ("x.y/z-1_2", "v")];
        for (text, expected) in [
            ("", true),
            ("  \t", true),
            ("all()", true),
            ("all( )", true),
            ("!all()", false),
            ("!!all()", true),
            ("a == 'b'", true),
            ("a==\"b\"", true),
            ("a == 'c'", false),
            ("a != 'b'", false),
            ("a != 'c'", true),
            // "also matches if label is not present"
            ("gone != 'c'", true),
            ("gone == ''", false),
            ("empty == ''", true),
            ("a in {'b', 'c'}", true),
            ("a in{'c'}", false),
            ("a in {}", false),
            ("a in {'b',}", true),
            ("a not in {'b'}", false),
            ("a notin {'c'}", true),
            ("gone not in {'c'}", true),
            ("gone not in {}", true),
            ("has(a)", true),
            ("has( a )", true),
            ("!has(a)", false),
            ("! has(gone)", true),
            ("!gone == 'c'", true),
            ("!a == 'b'", false),
            ("tier contains 't-e'", true),
            ("tier contains ''", true),
            ("gone contains ''", false),
            ("tier starts with 'front'", true),
            ("tier startswith 'end'", false),
            ("tier ends with 'end'", true),
            ("x.y/z-1_2 == 'v'", true),
            // A word of the language may be a key.
            ("has == 'x'", false),
            ("all != 'x'", true),
            ("in in {'x'}", false),
            ("a == 'b' && has(gone)", false),
            ("a == 'b' || has(gone)", true),
            // && binds stronger than ||.
            ("has(a) || has(gone) && has(gone)", true),
            ("(has(a) || has(gone)) && has(gone)", false),
            ("!(has(a) && has(gone))", true),
            ("all() && has(gone)", false),
            ("has(gone) || all()", true),
            ("a == 'b' && all()", true),
            ("((((a == 'b'))))", true),
            ("a == 'it\"s' || a == \"b\"", true),
        ] {
            assert_eq!(selects(text, &labels), expected, "{text}");
        }
        assert_eq!(parse(" global( ) "), Ok(Selected::Global));
    }

    #[test]
    fn what_is_a_list_of_requirements_becomes_one() {
        let Ok(Selected::Labels(selector)) = parse("a == 'b' && has(c) && !has(d) && all()") else {
            panic!("it is sound")
        };
        assert_eq!((selector.requirements().len(), selector.expression()), (3, None));
    }

    #[test]
    fn errors_say_where() {
        for (text, position, part) in [
            ("a", 2, "one of =="),
            ("a = 'b'", 3, "one of =="),
            ("a == b", 6, "a text in quotes"),
            ("a == 'b", 6, "has no end"),
            ("a == 'b' &&", 12, "a label's key"),
            ("a == 'b' & has(c)", 10, "should end"),
            ("a == 'b' has(c)", 10, "should end"),
            ("(a == 'b'", 10, "closing )"),
            ("has(a", 6, "closing )"),
            ("has()", 5, "a label's key"),
            ("a in 'b'", 6, "a set"),
            ("a in {'b' 'c'}", 11, "a comma"),
            ("a in {'b'", 10, "a comma"),
            ("a in {b}", 7, "a text in quotes"),
            ("a starts 'b'", 3, "one of =="),
            ("a == 'b'\n", 9, "should end"),
            ("ü == 'b'", 1, "a label's key"),
            ("has(a) && ö", 11, "a label's key"),
            ("global() && has(a)", 10, "stands alone"),
            ("has(a) && global()", 11, "stands alone"),
            ("!", 2, "a label's key"),
            (")", 1, "a label's key"),
        ] {
            let wrong = parse(text).unwrap_err();
            assert_eq!(wrong.position, position, "{text}: {wrong:?}");
            assert!(wrong.message.contains(part), "{text}: {wrong:?}");
        }
    }

    #[test]
    fn absurd_expressions_are_refused_and_large_ones_are_not() {
        assert!(parse(&"(".repeat(10_000)).is_err());
        assert!(parse(&format!("{}has(a){}", "(".repeat(65), ")".repeat(65))).is_err());
        assert!(parse(&format!("{}has(a){}", "(".repeat(64), ")".repeat(64))).is_ok());
        assert!(parse(&"!".repeat(20_000)).is_err());
        assert!(parse(&format!("{}has(a)", "!".repeat(16_001))).is_ok());
        assert!(parse(&vec!["has(a)"; 1_000].join(" && ")).is_ok());
        assert!(parse(&format!("{} == 'b'", "k".repeat(513))).is_err());
    }
}
