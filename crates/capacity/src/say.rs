//! Figures as people read them.

/// "33,333"; rounded to a whole number.
pub fn whole(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 && digits != "0" {
        text.insert(0, '-');
    }
    text
}

/// "1.5", "400": one decimal where it says something.
pub fn short(value: f64) -> String {
    let tenths = (value * 10.0).round() / 10.0;
    if tenths.fract() == 0.0 {
        whole(tenths)
    } else {
        format!("{tenths:.1}")
    }
}

/// "$1,400" of cents, "$12.50" where there are any.
pub fn money(cents: u64) -> String {
    let dollars = whole((cents / 100) as f64);
    match cents % 100 {
        0 => format!("${dollars}"),
        rest => format!("${dollars}.{rest:02}"),
    }
}

/// "89 %"; what is just above a whole hundred doesn't look like it.
pub fn percent(part: f64) -> String {
    format!("{} %", short(part * 100.0))
}

/// "99.998 %": as many nines as there are, and a digit behind them.
pub fn availability(part: f64) -> String {
    let down = 1.0 - part;
    if down <= 1e-12 {
        return "100 %".into();
    }
    let decimals = (-(down * 100.0).log10() - 1e-6).ceil().clamp(0.0, 9.0) as usize;
    let scale = 10_f64.powi(i32::try_from(decimals).unwrap_or(9));
    // Cut, not rounded: 99.996 is not 100.
    let cut = (part * 100.0 * scale + 1e-6).floor() / scale;
    format!("{cut:.decimals$} %")
}

/// "3.5 TB", "500 GB".
pub fn bytes(bytes: f64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB"];
    let (mut value, mut unit) = (bytes, 0);
    while value >= 999.95 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{} {}", short(value), units[unit])
}

/// Minutes of a year: "53 min", "31 s", "under 1 s".
pub fn minutes(minutes: f64) -> String {
    if minutes >= 600.0 {
        format!("{} h", short(minutes / 60.0))
    } else if minutes >= 1.0 {
        format!("{} min", short(minutes))
    } else if minutes * 60.0 >= 1.0 {
        format!("{} s", short(minutes * 60.0))
    } else if minutes > 0.0 {
        "under 1 s".into()
    } else {
        "0 s".into()
    }
}

/// "1 server", "2 servers".
pub fn count(n: u32, one: &str) -> String {
    format!("{n} {one}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_as_people_write_them() {
        assert_eq!(whole(33_333.3), "33,333");
        assert_eq!(whole(-1_000_000.0), "-1,000,000");
        assert_eq!((short(400.0), short(2.666)), ("400".into(), "2.7".into()));
        assert_eq!(
            (money(140_000), money(1250)),
            ("$1,400".into(), "$12.50".into())
        );
        assert_eq!(percent(0.8889), "88.9 %");
        assert_eq!(availability(0.999_980_97), "99.998 %");
        assert_eq!(availability(0.9999), "99.99 %");
        assert_eq!(availability(1.0), "100 %");
        assert_eq!(bytes(3.5e12), "3.5 TB");
        assert_eq!(
            (minutes(52.56), minutes(0.52)),
            ("52.6 min".into(), "31.2 s".into())
        );
    }
}
