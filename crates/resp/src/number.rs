//! Numbers as RESP writes them.

/// A decimal integer in its only canonical form, as Redis's `string2ll` takes it: no `+`, no
/// leading zero, no space, no `-0`.
pub(crate) fn parse_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.split_first()? {
        (b'-', rest) => (true, rest),
        _ => (false, text),
    };
    match digits {
        [] => return None,
        [b'0'] => return (!negative).then_some(0),
        [b'0', ..] => return None,
        _ => {}
    }
    let mut value = 0i64;
    for byte in digits {
        let digit = i64::from(byte.wrapping_sub(b'0'));
        if digit > 9 {
            return None;
        }
        // Downwards, since the most negative integer has no positive twin.
        value = value.checked_mul(10)?.checked_sub(digit)?;
    }
    if negative {
        Some(value)
    } else {
        value.checked_neg()
    }
}

/// A double as Redis writes it: the shortest digits that read back as the same value, without
/// an exponent where that stays short; `inf`, `-inf`, `nan`.
pub(crate) fn format_double(value: f64) -> String {
    /// Below it every whole double is exact, and is written as an integer.
    const WHOLE_MAX: f64 = (1u64 << 52) as f64;
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    if value.abs() < WHOLE_MAX && value.fract() == 0.0 {
        return format!("{value:.0}");
    }
    // "-1.25e-7": the standard library finds the shortest digits, the layout is ours.
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).count() as i32;
    // The power of ten of the last digit.
    let last = exponent - digits + 1;
    let plain_whole = last >= 0 && exponent.abs() < digits + 7;
    let plain_fraction = last < 0 && (last > -7 || exponent.abs() < 4);
    if plain_whole || plain_fraction {
        format!("{value}")
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{mantissa}e{sign}{}", exponent.abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_integers_are_read() {
        for value in [0, 1, -1, 9, 10, 12345, i64::MAX, i64::MIN, i64::MIN + 1] {
            assert_eq!(parse_integer(value.to_string().as_bytes()), Some(value));
        }
        for bad in [
            "",
            "-",
            "+1",
            "01",
            "-0",
            "-01",
            "00",
            " 1",
            "1 ",
            "1x",
            "0x1",
            "1.0",
            "9223372036854775808",
            "-9223372036854775809",
            "99999999999999999999999",
        ] {
            assert_eq!(parse_integer(bad.as_bytes()), None, "{bad:?} was taken");
        }
    }

    #[test]
    fn doubles_look_as_in_redis() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-17.0, "-17"),
            (3.5, "3.5"),
            (0.1, "0.1"),
            (-0.001, "-0.001"),
            (0.000001, "0.000001"),
            (1.5e-9, "1.5e-9"),
            (1e15, "1000000000000000"),
            (1e16, "1e+16"),
            (1.23456789e16, "1.23456789e+16"),
            (1.234567891e16, "12345678910000000"),
            (1e21, "1e+21"),
            (1.5e300, "1.5e+300"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(format_double(value), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn a_double_reads_back(bits: u64) {
            let value = f64::from_bits(bits);
            let back: f64 = format_double(value).parse().unwrap();
            assert!(value.is_nan() && back.is_nan() || back.to_bits() == bits);
        }
    }
}
