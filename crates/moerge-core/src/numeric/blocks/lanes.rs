//! Eight numbers side by side, one for each of eight groups of weights.
//!
//! ggml adds up a group's weights one after the other, so a group's sums cannot become vector instructions without
//! changing bits. Eight groups can: each lane adds in ggml's order.

use std::ops::{Add, BitAnd, Div, Mul, Neg, Sub};

use super::{
    groups::Side,
    unit::{LANES, Unit},
};

/// One number per group, and the unit that computes with them.
#[derive(Clone, Copy)]
pub(super) struct Lanes<U: Unit> {
    unit: U,
    x: U::Floats,
}

/// One condition per group.
#[derive(Clone, Copy)]
pub(super) struct Mask<U: Unit> {
    unit: U,
    mask: U::Mask,
}

impl<U: Unit> Lanes<U> {
    #[inline(always)]
    pub(super) fn load(unit: U, x: &Side) -> Self {
        Self { unit, x: unit.load(x) }
    }

    #[inline(always)]
    pub(super) fn splat(unit: U, x: f32) -> Self {
        Self { unit, x: unit.load(&[x; LANES]) }
    }

    #[inline(always)]
    pub(super) fn store(self) -> Side {
        self.unit.store(self.x)
    }

    #[inline(always)]
    pub(super) fn less(self, other: Self) -> Mask<U> {
        Mask { unit: self.unit, mask: self.unit.less(self.x, other.x) }
    }

    #[inline(always)]
    pub(super) fn equal(self, other: Self) -> Mask<U> {
        Mask { unit: self.unit, mask: self.unit.equal(self.x, other.x) }
    }

    /// The smaller number, `self` if either is NaN.
    #[inline(always)]
    pub(super) fn or_smaller(self, other: Self) -> Self {
        Self { x: self.unit.or_smaller(self.x, other.x), ..self }
    }

    /// The larger number, `self` if either is NaN.
    #[inline(always)]
    pub(super) fn or_larger(self, other: Self) -> Self {
        Self { x: self.unit.or_larger(self.x, other.x), ..self }
    }

    #[inline(always)]
    pub(super) fn abs(self) -> Self {
        Self { x: self.unit.abs(self.x), ..self }
    }

    /// [`super::scalar::low_byte`] of each.
    #[inline(always)]
    pub(super) fn low_bytes(self) -> [u8; LANES] {
        self.unit.low_bytes(self.x)
    }

    /// The nearest integer from `low` to `high`. ([`super::scalar::nearest`] says what it is for what is no number.)
    #[inline(always)]
    pub(super) fn nearest_within(self, low: f32, high: f32) -> Self {
        let nearest = Self { x: self.unit.nearest(self.x), ..self };
        nearest.or_smaller(Self::splat(self.unit, high)).or_larger(Self::splat(self.unit, low))
    }
}

impl<U: Unit> Mask<U> {
    /// `yes` where the condition holds, else `no`.
    #[inline(always)]
    pub(super) fn select(self, yes: Lanes<U>, no: Lanes<U>) -> Lanes<U> {
        Lanes { x: self.unit.select(self.mask, yes.x, no.x), ..yes }
    }

    /// Where the condition does not hold.
    #[inline(always)]
    pub(super) fn not(self) -> Self {
        Self { mask: self.unit.not(self.mask), ..self }
    }

    /// Whether the condition holds anywhere.
    #[inline(always)]
    pub(super) fn any(self) -> bool {
        self.unit.any(self.mask)
    }

    /// Whether the condition holds, group by group.
    #[inline(always)]
    pub(super) fn holds(self) -> [bool; LANES] {
        self.unit.holds(self.mask)
    }
}

impl<U: Unit> BitAnd for Mask<U> {
    type Output = Self;

    #[inline(always)]
    fn bitand(self, other: Self) -> Self {
        Self { mask: self.unit.and(self.mask, other.mask), ..self }
    }
}

impl<U: Unit> Add for Lanes<U> {
    type Output = Self;

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self { x: self.unit.add(self.x, other.x), ..self }
    }
}

impl<U: Unit> Sub for Lanes<U> {
    type Output = Self;

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self { x: self.unit.sub(self.x, other.x), ..self }
    }
}

impl<U: Unit> Mul for Lanes<U> {
    type Output = Self;

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self { x: self.unit.mul(self.x, other.x), ..self }
    }
}

impl<U: Unit> Div for Lanes<U> {
    type Output = Self;

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        Self { x: self.unit.div(self.x, other.x), ..self }
    }
}

impl<U: Unit> Neg for Lanes<U> {
    type Output = Self;

    #[inline(always)]
    fn neg(self) -> Self {
        Self { x: self.unit.neg(self.x), ..self }
    }
}
