//! The vectors of the standard.

use xts::{AesXts, Backend};

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks_exact(2);
    let byte = |pair| {
        let pair = std::str::from_utf8(pair).expect("ASCII");
        u8::from_str_radix(pair, 16).expect("hexadecimal digits")
    };
    pairs.map(byte).collect()
}

#[test]
fn every_backend_reproduces_the_vectors_of_ieee_1619() {
    let text = include_str!("data/ieee1619.txt");
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines.len(), 5);
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        let [vector, key, iv, plain, cipher] = words[..] else { panic!("five words: {line}") };
        let (key, plain, cipher) = (bytes(key), bytes(plain), bytes(cipher));
        let iv: [u8; 16] = bytes(iv).try_into().unwrap();
        for backend in Backend::available() {
            let xts = AesXts::with_backend(backend, &key).unwrap();
            let mut data = plain.clone();
            xts.encrypt(&mut data, plain.len(), |_| iv);
            assert_eq!(data, cipher, "vector {vector} with {backend}");
            xts.decrypt(&mut data, plain.len(), |_| iv);
            assert_eq!(data, plain, "vector {vector} back with {backend}");
        }
    }
}
