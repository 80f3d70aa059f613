//! Redis's floats: the 80-bit `long double` of x86-64, parsed, added and written as C does it
//! there, in integers. So INCRBYFLOAT has the same last digit on every processor.
//!
//! A number is mantissa × 2^exponent with a mantissa of 64 bits; everything rounds half to
//! even.

/// A number, or more than the type holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Float {
    /// This number.
    Finite(Finite),
    /// Too large; or what a client wrote as `inf`.
    Infinite,
}

/// ± mantissa × 2^exponent; the top bit of the mantissa is set unless the number is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finite {
    negative: bool,
    mantissa: u64,
    exponent: i32,
}

/// The exponent of the smallest number that is not zero.
const EXPONENT_MIN: i32 = -16_445;
/// A number of this many bits before the point is infinite.
const BITS_MAX: i32 = 16_384;
/// The longest text that is read as a number.
const TEXT_BYTES_MAX: usize = 5 * 1024 - 1;
/// Digits behind the point that are written.
const DIGITS: u32 = 17;

impl Finite {
    /// Zero.
    pub const ZERO: Finite = Finite {
        negative: false,
        mantissa: 0,
        exponent: 0,
    };
}

/// Reads a number as Redis does (`string2ld`, so `strtold`): decimal or hexadecimal, `inf`,
/// `infinity`; no space around it. None for anything else, `nan` and what is out of range.
pub fn parse(text: &[u8]) -> Option<Float> {
    if text.is_empty() || text.len() > TEXT_BYTES_MAX {
        return None;
    }
    let (negative, rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if rest.eq_ignore_ascii_case(b"inf") || rest.eq_ignore_ascii_case(b"infinity") {
        return Some(Float::Infinite);
    }
    let number = match rest {
        [b'0', b'x' | b'X', rest @ ..] => parse_scaled(rest, 16, b'p')?,
        _ => parse_scaled(rest, 10, b'e')?,
    };
    match number {
        // Out of range, as `errno` says.
        Float::Infinite => None,
        Float::Finite(number) => Some(Float::Finite(Finite { negative, ..number })),
    }
}

/// Digits with a point, and an exponent behind `mark`: of ten, or of two if the digits are
/// hexadecimal.
fn parse_scaled(text: &[u8], base: u32, mark: u8) -> Option<Float> {
    let end = text.iter().position(|b| b.to_ascii_lowercase() == mark);
    let (digits, exponent) = text.split_at(end.unwrap_or(text.len()));
    let mut number = Big::default();
    let (mut seen, mut behind_point, mut point) = (false, 0i64, false);
    for byte in digits {
        if *byte == b'.' && !point {
            point = true;
            continue;
        }
        let digit = char::from(*byte).to_digit(base)?;
        number.multiply_add(base, digit);
        (seen, behind_point) = (true, behind_point + i64::from(point));
    }
    let power = match exponent {
        [] => 0,
        [_, rest @ ..] => parse_exponent(rest)?,
    };
    if !seen {
        return None;
    }
    if number.is_zero() {
        return Some(Float::Finite(Finite::ZERO));
    }
    let rounded = if base == 16 {
        let power = (power - 4 * behind_point).clamp(-100_000, 100_000);
        number.rounded(power as i32, false)
    } else {
        decimal(number, power - behind_point)
    };
    match rounded {
        // Not zero, but rounded to it: out of range.
        Float::Finite(Finite { mantissa: 0, .. }) => None,
        rounded => Some(rounded),
    }
}

fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() {
        return None;
    }
    let mut power = 0i64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        power = (power * 10 + i64::from(digit - b'0')).min(1_000_000);
    }
    Some(if negative { -power } else { power })
}

/// `number` × 10^`power`.
fn decimal(mut number: Big, power: i64) -> Float {
    // Beyond these it is infinite or zero whatever the digits are: there are at most 5,119.
    if power > 5_000 {
        return Float::Infinite;
    }
    if power < -11_000 {
        return Float::Finite(Finite::ZERO);
    }
    if power >= 0 {
        (0..power).for_each(|_| number.multiply_add(10, 0));
        return number.rounded(0, false);
    }
    let mut divisor = Big::from(1);
    (0..-power).for_each(|_| divisor.multiply_add(10, 0));
    // Scaled so that divisor ≤ number < 2 × divisor; then one bit of the quotient a step.
    let (bits, divisor_bits) = (number.bits(), divisor.bits());
    let mut exponent = bits as i32 - divisor_bits as i32;
    if exponent > 0 {
        divisor.shift_left(bits - divisor_bits);
    } else {
        number.shift_left(divisor_bits - bits);
    }
    if number < divisor {
        number.shift_left(1);
        exponent -= 1;
    }
    let mut quotient = 0u128;
    for _ in 0..66 {
        quotient <<= 1;
        if number >= divisor {
            number.subtract(&divisor);
            quotient |= 1;
        }
        number.shift_left(1);
    }
    rounded(quotient, exponent - 65, !number.is_zero())
}

/// `value` × 2^`exponent`, and a little more if `sticky`.
fn rounded(value: u128, exponent: i32, sticky: bool) -> Float {
    let bits = 128 - value.leading_zeros() as i32;
    let drop = (bits - 64).max(EXPONENT_MIN - exponent).max(0);
    let mut kept = if drop >= 128 { 0 } else { value >> drop };
    if drop > 0 && drop <= 128 {
        let half = 1u128 << (drop - 1);
        let rest = if drop == 128 {
            value
        } else {
            value & (half | (half - 1))
        };
        if rest > half || rest == half && (sticky || kept & 1 == 1) {
            kept += 1;
        }
    }
    if kept == 0 {
        return Float::Finite(Finite::ZERO);
    }
    // Rounding up may have made a 65th bit, a zero behind a one.
    let mut exponent = exponent + drop;
    if kept >> 64 != 0 {
        (kept, exponent) = (kept >> 1, exponent + 1);
    }
    let mantissa = kept as u64;
    let shift = mantissa.leading_zeros();
    let exponent = exponent - shift as i32;
    if exponent + 64 > BITS_MAX {
        return Float::Infinite;
    }
    Float::Finite(Finite {
        negative: false,
        mantissa: mantissa << shift,
        exponent,
    })
}

impl Finite {
    /// The sum.
    pub fn plus(self, other: Finite) -> Float {
        if self.mantissa == 0 {
            return Float::Finite(other);
        }
        if other.mantissa == 0 {
            return Float::Finite(self);
        }
        let (mut large, mut small) = (self, other);
        if (large.exponent, large.mantissa) < (small.exponent, small.mantissa) {
            (large, small) = (small, large);
        }
        // 62 bits of room below the larger: enough to round by.
        let exponent = large.exponent - 62;
        let a = u128::from(large.mantissa) << 62;
        let apart = large.exponent.abs_diff(small.exponent);
        let b = u128::from(small.mantissa) << 62;
        let (b, lost) = if apart < 126 {
            (b >> apart, b & ((1 << apart) - 1) != 0)
        } else {
            (0, true)
        };
        let sum = if large.negative == small.negative {
            a + b
        } else {
            a - b - u128::from(lost)
        };
        match rounded(sum, exponent, lost) {
            Float::Finite(sum) => Float::Finite(Finite {
                negative: large.negative && sum.mantissa != 0,
                ..sum
            }),
            Float::Infinite => Float::Infinite,
        }
    }
}

/// As Redis writes it (`LD_STR_HUMAN`): 17 digits behind the point, zeros at the end left out.
impl std::fmt::Display for Finite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, fraction) = if self.exponent >= 0 {
            let mut number = Big::from(self.mantissa);
            number.shift_left(self.exponent as usize);
            (number.digits(), 0)
        } else {
            let one = 10u128.pow(DIGITS);
            let scaled = u128::from(self.mantissa) * one;
            let shift = self.exponent.unsigned_abs();
            let mut units = scaled.checked_shr(shift).unwrap_or(0);
            // Below 2^121, so that it rounds to nothing if shifted by more.
            if shift < 128 {
                let half = 1u128 << (shift - 1);
                let rest = scaled & (half | (half - 1));
                units += u128::from(rest > half || rest == half && units & 1 == 1);
            }
            ((units / one).to_string(), units % one)
        };
        let digits = format!("{fraction:017}");
        let digits = digits.trim_end_matches('0');
        let sign = if self.negative && (whole != "0" || !digits.is_empty()) {
            "-"
        } else {
            ""
        };
        let point = if digits.is_empty() { "" } else { "." };
        write!(f, "{sign}{whole}{point}{digits}")
    }
}

/// A whole number of any size: 32 bits a limb, the lowest first, no zero limb at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Big(Vec<u32>);

impl From<u64> for Big {
    fn from(n: u64) -> Big {
        let mut big = Big(vec![n as u32, (n >> 32) as u32]);
        big.trim();
        big
    }
}

impl PartialOrd for Big {
    fn partial_cmp(&self, other: &Big) -> Option<std::cmp::Ordering> {
        let key = |big: &Big| big.0.len();
        Some(
            key(self)
                .cmp(&key(other))
                .then_with(|| self.0.iter().rev().cmp(other.0.iter().rev())),
        )
    }
}

impl Big {
    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    fn bits(&self) -> usize {
        let top = self.0.last().map_or(0, |top| top.leading_zeros());
        self.0.len() * 32 - top as usize
    }

    fn multiply_add(&mut self, by: u32, plus: u32) {
        let mut carry = u64::from(plus);
        for limb in &mut self.0 {
            let product = u64::from(*limb) * u64::from(by) + carry;
            (*limb, carry) = (product as u32, product >> 32);
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
    }

    fn shift_left(&mut self, by: usize) {
        let bits = by % 32;
        if bits > 0 {
            let mut carry = 0;
            for limb in &mut self.0 {
                let shifted = u64::from(*limb) << bits | carry;
                (*limb, carry) = (shifted as u32, shifted >> 32);
            }
            if carry > 0 {
                self.0.push(carry as u32);
            }
        }
        if by >= 32 && !self.is_zero() {
            self.0.splice(0..0, std::iter::repeat_n(0, by / 32));
        }
    }

    /// Takes away what is not more than it.
    fn subtract(&mut self, other: &Big) {
        let mut borrow = false;
        for (n, limb) in self.0.iter_mut().enumerate() {
            let (less, a) = limb.overflowing_sub(other.0.get(n).copied().unwrap_or(0));
            let (less, b) = less.overflowing_sub(borrow.into());
            (*limb, borrow) = (less, a || b);
        }
        self.trim();
    }

    /// It × 2^`exponent`, and a little more if `sticky`.
    fn rounded(&self, exponent: i32, mut sticky: bool) -> Float {
        let skip = self.0.len().saturating_sub(4);
        sticky |= self.0[..skip].iter().any(|limb| *limb != 0);
        let top = self.0[skip..].iter().rev();
        let top = top.fold(0u128, |value, limb| value << 32 | u128::from(*limb));
        rounded(top, exponent.saturating_add(32 * skip as i32), sticky)
    }

    fn digits(mut self) -> String {
        let mut groups = Vec::new();
        while !self.is_zero() {
            let mut rest = 0u64;
            for limb in self.0.iter_mut().rev() {
                let value = rest << 32 | u64::from(*limb);
                *limb = (value / 1_000_000_000) as u32;
                rest = value % 1_000_000_000;
            }
            self.trim();
            groups.push(rest);
        }
        let mut digits = groups.pop().unwrap_or(0).to_string();
        for group in groups.iter().rev() {
            digits += &format!("{group:09}");
        }
        digits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn finite(text: &str) -> Option<Finite> {
        match parse(text.as_bytes()) {
            Some(Float::Finite(number)) => Some(number),
            _ => None,
        }
    }

    fn sum(a: &str, b: &str) -> String {
        match finite(a).unwrap().plus(finite(b).unwrap()) {
            Float::Finite(sum) => sum.to_string(),
            Float::Infinite => "infinite".into(),
        }
    }

    #[test]
    fn sums_are_those_of_redis() {
        // Recorded from redis-server 7.0.15 on x86-64.
        for (a, b, expected) in [
            ("3.0", "1.1", "4.1"),
            ("0.1", "0.2", "0.3"),
            ("1e3", "-0", "1000"),
            ("-0.5", "0.5", "0"),
            ("0", "1e-17", "0.00000000000000001"),
            ("0", "1e-18", "0"),
            ("0", "-1e-18", "0"),
            ("1", "1e-18", "1"),
            ("0x1p-2", "0X.8", "0.75"),
            ("17179869184", "1.5", "17179869185.5"),
            ("1e30", "0.1", "1000000000000000000024696061952"),
            ("123456789.987654321", "1e-5", "123456789.98766432100092061"),
            ("3.14159265358979323846", "-2.5e-3", "3.13909265358979324"),
            ("1e-4950", "1", "1"),
            ("9223372036854775807", "1", "9223372036854775808"),
            ("1e4932", "1e4932", "infinite"),
        ] {
            assert_eq!(sum(a, b), expected, "{a} + {b}");
        }
    }

    #[test]
    fn what_is_no_number_is_not_read() {
        for text in [
            "",
            " 1",
            "1 ",
            "abc",
            "1.1.1",
            "1e",
            "1e+",
            "e1",
            ".",
            "-",
            "+-1",
            "0x",
            "nan",
            "NaN",
            "1e5000",
            "1e-5000",
            "-1e5000",
            "1_0",
            "0x1p99999",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        for text in ["inf", "-INF", "+Infinity"] {
            assert_eq!(parse(text.as_bytes()), Some(Float::Infinite), "{text}");
        }
        assert_eq!(parse(&[b'1'; TEXT_BYTES_MAX + 1]), None);
        assert!(finite("3.6e-4951").is_some());
        assert!(finite("1.e1").is_some() && finite(".5").is_some());
    }

    proptest! {
        #[test]
        fn whole_numbers_are_exact(a in -(1i64 << 60)..1 << 60, b in -(1i64 << 60)..1 << 60) {
            prop_assert_eq!(sum(&a.to_string(), &b.to_string()), (a + b).to_string());
        }

        #[test]
        fn halves_and_quarters_are_exact(a in -(1i64 << 40)..1 << 40, b in -(1i64 << 40)..1 << 40) {
            let text = |n: i64| (n as f64 / 4.0).to_string();
            prop_assert_eq!(sum(&text(a), &text(b)), text(a + b));
        }

        #[test]
        fn a_double_is_read_as_it_is(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite() && value != 0.0);
            // All digits of it, so that nothing is rounded.
            let number = finite(&format!("{value:.1100}")).unwrap();
            let (mantissa, exponent) = (value.to_bits() & ((1 << 52) - 1), (value.to_bits() >> 52) & 0x7ff);
            let (mantissa, exponent) = if exponent == 0 { (mantissa, -1074) }
                else { (mantissa | 1 << 52, exponent as i32 - 1075) };
            let shift = mantissa.leading_zeros();
            prop_assert_eq!(number.mantissa, mantissa << shift);
            prop_assert_eq!(number.exponent, exponent - shift as i32);
            prop_assert_eq!(number.negative, value < 0.0);
        }

        #[test]
        fn no_text_makes_it_panic(text in "[-+0-9.exp]{0,40}") {
            if let (Some(a), Some(b)) = (finite(&text), finite("1.5"))
                && let Float::Finite(sum) = a.plus(b)
            {
                let _ = sum.to_string();
            }
        }
    }
}
