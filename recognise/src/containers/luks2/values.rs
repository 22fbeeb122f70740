//! The kinds of value in LUKS2's JSON text: each bounded in size while it is read, as the text is
//! whatever somebody wrote on a disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

/// More objects of a kind than any header has: 32 key slots, tokens and segments, 8 digests.
const MOST: usize = 32;

/// The longest binary value: a salt or a digest.
const LONGEST_BINARY: usize = 1024;

/// A 64-bit number, which JSON readers would round: a text of digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number(pub u64);

/// The size of a segment in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// To the end of the device.
    Dynamic,
    /// So many bytes.
    Fixed(u64),
}

/// Objects by their number.
#[derive(Clone, Debug)]
pub struct Numbered<T>(pub BTreeMap<u32, T>);

/// References to objects by their number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers(pub BTreeSet<u32>);

/// Flags or requirements.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Words(pub Vec<Text>);

/// A text without control characters: it may reach a terminal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Text(pub String);

/// Bytes, in base64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binary(pub Vec<u8>);

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<T> Numbered<T> {
    /// Returns the object with a number.
    pub fn get(&self, number: u32) -> Option<&T> {
        self.0.get(&number)
    }

    /// Goes through the objects by their numbers, upwards.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.0.iter().map(|(number, object)| (*number, object))
    }
}

/// Reads a number in digits, without sign, space or leading zero.
fn number(text: &str) -> Option<u64> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit())
        && (text.len() == 1 || !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Number, D::Error> {
        from.deserialize_str(TextVisitor("a number as text", |text: &str| number(text).map(Number)))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Size, D::Error> {
        from.deserialize_str(TextVisitor(
            "`dynamic` or a number as text",
            |text: &str| match text {
                "dynamic" => Some(Size::Dynamic),
                digits => number(digits).map(Size::Fixed),
            },
        ))
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Text, D::Error> {
        from.deserialize_str(TextVisitor("a text without control characters", |text: &str| {
            (!text.contains(char::is_control)).then(|| Text(text.to_owned()))
        }))
    }
}

impl<'de> Deserialize<'de> for Binary {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Binary, D::Error> {
        from.deserialize_str(TextVisitor("bytes in base64", |text: &str| {
            let short = text.len() <= LONGEST_BINARY * 4 / 3;
            let bytes = short.then(|| BASE64_STANDARD.decode(text).ok());
            bytes.flatten().map(Binary)
        }))
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.0)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Size::Dynamic => to.serialize_str("dynamic"),
            Size::Fixed(bytes) => to.collect_str(bytes),
        }
    }
}

impl Serialize for Binary {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64_STANDARD.encode(&self.0))
    }
}

impl<T: Serialize> Serialize for Numbered<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(number, object)| (number.to_string(), object)))
    }
}

impl Serialize for Numbers {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.0.iter().map(u32::to_string))
    }
}

/// A value of a text, with what is expected of it.
struct TextVisitor<F>(&'static str, F);

impl<'de, T, F: Fn(&str) -> Option<T>> Visitor<'de> for TextVisitor<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.1)(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(short(text)), &self))
    }
}

/// Cuts a text that is shown in an error.
fn short(text: &str) -> &str {
    text.char_indices().nth(64).map_or(text, |(end, _)| &text[..end])
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Numbered<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Numbered<T>, D::Error> {
        from.deserialize_map(NumberedVisitor(PhantomData))
    }
}

struct NumberedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for NumberedVisitor<T> {
    type Value = Numbered<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MOST} numbered objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Numbered<T>, A::Error> {
        let mut objects = BTreeMap::new();
        while let Some(Number(key)) = map.next_key()? {
            if objects.len() == MOST {
                return Err(de::Error::invalid_length(MOST + 1, &self));
            }
            let number = u32::try_from(key);
            let number = number.map_err(|_| de::Error::custom(format!("object number {key}")))?;
            if objects.insert(number, map.next_value()?).is_some() {
                return Err(de::Error::custom(format!("object {number} is there twice")));
            }
        }
        Ok(Numbered(objects))
    }
}

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Numbers, D::Error> {
        let list = from.deserialize_seq(ListVisitor::<Number>(PhantomData))?;
        let narrow = |number: Number| {
            let narrowed = u32::try_from(number.0);
            narrowed.map_err(|_| de::Error::custom(format!("object number {}", number.0)))
        };
        list.into_iter().map(narrow).collect::<Result<_, _>>().map(Numbers)
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Words, D::Error> {
        from.deserialize_seq(ListVisitor::<Text>(PhantomData)).map(Words)
    }
}

/// A list that is not longer than there are objects.
struct ListVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MOST}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = seq.next_element()? {
            if list.len() == MOST {
                return Err(de::Error::invalid_length(MOST + 1, &self));
            }
            list.push(entry);
        }
        Ok(list)
    }
}

/// Reads a field of tokens, which may be something else by the same name in those of others.
pub(super) fn text_or_nothing<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Text>, D::Error> {
    from.deserialize_any(TextOrNothing)
}

struct TextOrNothing;

impl<'de> Visitor<'de> for TextOrNothing {
    type Value = Option<Text>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Option<Text>, E> {
        Ok((!text.contains(char::is_control)).then(|| Text(text.to_owned())))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Option<Text>, E> {
        Ok(None)
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Option<Text>, E> {
        Ok(None)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Option<Text>, E> {
        Ok(None)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Option<Text>, E> {
        Ok(None)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Option<Text>, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Option<Text>, A::Error> {
        IgnoredAny.visit_seq(seq).map(|_| None)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<Text>, A::Error> {
        IgnoredAny.visit_map(map).map(|_| None)
    }
}
