//! Numbers in as few bytes as they need: seven bits in each, the last one below 128.

/// Appends a number.
pub(crate) fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a number that may be below zero.
pub(crate) fn put_signed(out: &mut Vec<u8>, number: i64) {
    put(out, ((number << 1) ^ (number >> 63)) as u64);
}

/// Takes a number that was put there. Of nothing it is 0.
pub(crate) fn take(bytes: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let Some((&byte, rest)) = bytes.split_first() else {
            break;
        };
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    number
}

/// Takes a number that was put there with its sign.
pub(crate) fn take_signed(bytes: &mut &[u8]) -> i64 {
    let number = take(bytes);
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_as_they_were_and_small_ones_are_short() {
        let all = [0, 1, 127, 128, 16_383, 16_384, u32::MAX.into(), u64::MAX];
        let signed = [0, 1, -1, 63, -64, 64, i64::MAX, i64::MIN];
        let mut bytes = Vec::new();
        all.iter().for_each(|&number| put(&mut bytes, number));
        assert_eq!(bytes.len(), 3 + 2 + 2 + 3 + 5 + 10);
        signed
            .iter()
            .for_each(|&number| put_signed(&mut bytes, number));
        let mut rest = &bytes[..];
        assert_eq!(all.map(|_| take(&mut rest)), all);
        assert_eq!(signed.map(|_| take_signed(&mut rest)), signed);
        assert!(rest.is_empty());
        assert_eq!(take(&mut rest), 0);
    }
}
