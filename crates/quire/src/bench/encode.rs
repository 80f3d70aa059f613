//! Requests as bytes: the pieces that every workload's requests are made of, appended to a
//! buffer that is sent as it is.

/// A line of a sign and a length.
pub(super) fn put_len(sign: u8, len: usize, out: &mut Vec<u8>) {
    out.push(sign);
    out.extend_from_slice(itoa::Buffer::new().format(len).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// One argument.
pub(super) fn put_bulk(text: &[u8], out: &mut Vec<u8>) {
    put_len(b'$', text.len(), out);
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

/// One argument that is a number.
pub(super) fn put_number(number: u64, out: &mut Vec<u8>) {
    put_bulk(itoa::Buffer::new().format(number).as_bytes(), out);
}

/// One argument that is a word and a number behind it.
pub(super) fn put_numbered(word: &[u8], number: u64, out: &mut Vec<u8>) {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(number).as_bytes();
    put_len(b'$', word.len() + digits.len(), out);
    out.extend_from_slice(word);
    out.extend_from_slice(digits);
    out.extend_from_slice(b"\r\n");
}
