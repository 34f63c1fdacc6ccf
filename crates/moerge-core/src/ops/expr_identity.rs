//! The identity of an expression. Every part is hashed by an exhaustive match, so a new kind of expression cannot be left
//! out.

use super::{Expr, Identity, LoraDelta, Noise};
use crate::error::Result;

impl Identity {
    /// Adds an expression.
    ///
    /// # Errors
    /// A source cannot be read.
    pub fn expr(&mut self, expr: &Expr) -> Result<()> {
        match expr {
            Expr::View(view) => {
                self.number(0);
                self.view(view)?;
            }
            Expr::Lora { input, delta: LoraDelta { a, b, scale, transposed }, round } => {
                self.number(1).flag(*transposed).float(*scale).optional(*round, |id, dtype| {
                    id.text(dtype.name());
                });
                self.view(a)?;
                self.view(b)?;
                self.expr(input)?;
            }
            Expr::Noise { input, noise: Noise { scale, name } } => {
                self.number(2).float(*scale).text(name);
                self.expr(input)?;
            }
            Expr::Scale { input, factor } => {
                self.number(3).float(*factor);
                self.expr(input)?;
            }
            Expr::Pad { input, shape } => {
                self.number(4).shape(shape);
                self.expr(input)?;
            }
            Expr::PadWithMean { input, shape } => {
                self.number(9).shape(shape);
                self.expr(input)?;
            }
            Expr::RowMap { input, map, shape } => {
                self.number(5).shape(shape);
                self.list(map.iter(), |id, row| {
                    id.optional(*row, |id, row| {
                        id.number(row as u64);
                    });
                });
                self.expr(input)?;
            }
            Expr::Concat { inputs, shape } => {
                self.number(10).number(inputs.len() as u64).shape(shape);
                inputs.iter().try_for_each(|input| self.expr(input))?;
            }
            Expr::Combine { method, inputs } => {
                self.number(6).number(inputs.len() as u64);
                method.identify(self);
                inputs.iter().try_for_each(|input| self.expr(input))?;
            }
            Expr::Constant { values, shape } => {
                self.number(11).shape(shape);
                self.list(values.iter(), |id, x| {
                    id.float(f64::from(*x));
                });
            }
            Expr::Fill { value, shape } => self.number(7).float(f64::from(*value)).shape(shape),
            Expr::Computed { name, shape } => self.number(8).text(name).shape(shape),
        }
        Ok(())
    }
}
