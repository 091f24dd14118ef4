//! Opens an encrypted assertion (SAML Core section 2.3.4, XML Encryption 1.1) with a key of the app's.
//!
//! Anyone can encrypt to that key, since its public half is published: what comes out is a stranger's text until a
//! signature over it, inside or around, holds. RSA 1.5 is not offered: its padding answers questions about the key.

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{self, DecryptingKey, DecryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OAEP_SHA512_MGF1SHA512, OaepAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use roxmltree::Node;
use zeroize::Zeroizing;

use super::super::DecryptionFault;
use crate::capture::saml::names::{ENCRYPTION, ENCRYPTION_11, SHA_1, SHA_256, SHA_384, SHA_512, SIGNATURE};
use crate::capture::saml::tree::{is, named, plain, text};
use crate::provider::decryption_key::DecryptionKey;

/// Each costs an RSA operation with every key of the app's, before anything is signed.
const MAX_ENCRYPTED_KEYS: usize = 3;
/// Its mask function is MGF1 with SHA-1, whatever its digest (XML Encryption 1.1 section 5.5.2).
const RSA_OAEP_MGF1P: &str = "http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p";
const RSA_OAEP: &str = "http://www.w3.org/2009/xmlenc11#rsa-oaep";
const MGF1_SHA_1: &str = "http://www.w3.org/2009/xmlenc11#mgf1sha1";
const BLOCK: usize = 16;
const GCM_NONCE: usize = 12;

/// How the content of an assertion is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ContentCipher {
    mode: Mode,
    key_length: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Gcm,
    Cbc,
}

impl ContentCipher {
    /// By the identifiers of XML Encryption 1.1 section 5.2.
    fn named(algorithm: &str) -> Option<Self> {
        let (mode, key_length) = match algorithm {
            "http://www.w3.org/2009/xmlenc11#aes128-gcm" => (Mode::Gcm, 16),
            "http://www.w3.org/2009/xmlenc11#aes192-gcm" => (Mode::Gcm, 24),
            "http://www.w3.org/2009/xmlenc11#aes256-gcm" => (Mode::Gcm, 32),
            "http://www.w3.org/2001/04/xmlenc#aes128-cbc" => (Mode::Cbc, 16),
            "http://www.w3.org/2001/04/xmlenc#aes192-cbc" => (Mode::Cbc, 24),
            "http://www.w3.org/2001/04/xmlenc#aes256-cbc" => (Mode::Cbc, 32),
            _ => return None,
        };
        Some(Self { mode, key_length })
    }

    /// Whether a changed ciphertext goes unnoticed, so that answers about its plaintext must not differ.
    pub(super) fn is_malleable(self) -> bool {
        self.mode == Mode::Cbc
    }
}

/// The cipher of an EncryptedAssertion that the guard accepted.
///
/// # Errors
/// [`DecryptionFault::ContentAlgorithm`] where it is unknown.
pub(super) fn content_cipher(encrypted: Node<'_, '_>) -> Result<ContentCipher, DecryptionFault> {
    let method = named(encrypted, ENCRYPTION, "EncryptedData").next().and_then(method);
    let algorithm = method.and_then(|method| plain(method, "Algorithm")).unwrap_or("nothing");
    ContentCipher::named(algorithm).ok_or_else(|| DecryptionFault::ContentAlgorithm(short(algorithm)))
}

/// Decrypts an EncryptedAssertion that the guard accepted.
///
/// # Errors
/// What stands in the way. It is for the log alone: its sender would learn from it what is inside.
pub(super) fn open<'k>(
    encrypted: Node<'_, '_>,
    keys: impl Iterator<Item = &'k DecryptionKey> + Clone,
) -> Result<String, DecryptionFault> {
    let cipher = content_cipher(encrypted)?;
    let data = named(encrypted, ENCRYPTION, "EncryptedData").next().ok_or(DecryptionFault::Content)?;
    let content = cipher_value(data).ok_or(DecryptionFault::Content)?;
    let content_key = content_key(encrypted, data, cipher, keys)?;
    let plaintext = match cipher.mode {
        Mode::Gcm => open_gcm(cipher, &content_key, content),
        Mode::Cbc => open_cbc(cipher, &content_key, content),
    };
    plaintext.and_then(|plaintext| String::from_utf8(plaintext).ok()).ok_or(DecryptionFault::Content)
}

/// The first content key that one of ours unwraps.
fn content_key<'k>(
    encrypted: Node<'_, '_>,
    data: Node<'_, '_>,
    cipher: ContentCipher,
    keys: impl Iterator<Item = &'k DecryptionKey> + Clone,
) -> Result<Zeroizing<Vec<u8>>, DecryptionFault> {
    let mut fault = DecryptionFault::NoKey;
    for encrypted_key in encrypted_keys(encrypted, data).take(MAX_ENCRYPTED_KEYS) {
        let algorithm = match key_transport(encrypted_key) {
            Ok(algorithm) => algorithm,
            Err(unknown) => {
                fault = unknown;
                continue;
            }
        };
        let wrapped = cipher_value(encrypted_key).unwrap_or_default();
        let opened = keys.clone().find_map(|key| unwrap_key(key, algorithm, &wrapped));
        match opened.filter(|content_key| content_key.len() == cipher.key_length) {
            Some(content_key) => return Ok(content_key),
            None => fault = DecryptionFault::OtherKey,
        }
    }
    Err(fault)
}

/// EncryptedKeys within the EncryptedData's KeyInfo or next to it.
fn encrypted_keys<'a, 'input: 'a>(
    encrypted: Node<'a, 'input>,
    data: Node<'a, 'input>,
) -> impl Iterator<Item = Node<'a, 'input>> {
    let inside = named(data, SIGNATURE, "KeyInfo").flat_map(|info| named(info, ENCRYPTION, "EncryptedKey"));
    inside.chain(named(encrypted, ENCRYPTION, "EncryptedKey"))
}

fn method<'a, 'input: 'a>(node: Node<'a, 'input>) -> Option<Node<'a, 'input>> {
    named(node, ENCRYPTION, "EncryptionMethod").next()
}

fn cipher_value(node: Node<'_, '_>) -> Option<Vec<u8>> {
    let data = named(node, ENCRYPTION, "CipherData").next()?;
    let value = text(named(data, ENCRYPTION, "CipherValue").next()?)?;
    let compact: Vec<u8> = value.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(compact).ok()
}

/// RSA-OAEP (XML Encryption 1.1 section 5.5.2). Where digest and mask function differ, aws-lc has no such pair.
fn key_transport(encrypted_key: Node<'_, '_>) -> Result<&'static OaepAlgorithm, DecryptionFault> {
    let Some(method) = method(encrypted_key) else { return Err(DecryptionFault::KeyAlgorithm("nothing".into())) };
    let algorithm = plain(method, "Algorithm").unwrap_or_default();
    let unknown = || DecryptionFault::KeyAlgorithm(short(algorithm));
    let digest = match named(method, SIGNATURE, "DigestMethod").next() {
        Some(digest) => plain(digest, "Algorithm").unwrap_or_default(),
        None => SHA_1,
    };
    let mask = match (algorithm, named(method, ENCRYPTION_11, "MGF").next()) {
        (RSA_OAEP, Some(mask)) => plain(mask, "Algorithm").unwrap_or_default(),
        (RSA_OAEP_MGF1P, _) | (RSA_OAEP, None) => MGF1_SHA_1,
        _ => return Err(unknown()),
    };
    if method.children().any(|child| is(child, ENCRYPTION, "OAEPparams")) {
        return Err(DecryptionFault::KeyAlgorithm(format!("{algorithm} with OAEPparams")));
    }
    match (digest, mask) {
        (SHA_1, MGF1_SHA_1) => Ok(&OAEP_SHA1_MGF1SHA1),
        (SHA_256, "http://www.w3.org/2009/xmlenc11#mgf1sha256") => Ok(&OAEP_SHA256_MGF1SHA256),
        (SHA_384, "http://www.w3.org/2009/xmlenc11#mgf1sha384") => Ok(&OAEP_SHA384_MGF1SHA384),
        (SHA_512, "http://www.w3.org/2009/xmlenc11#mgf1sha512") => Ok(&OAEP_SHA512_MGF1SHA512),
        _ => Err(DecryptionFault::KeyHashes { digest: short(digest), mask: short(mask) }),
    }
}

fn unwrap_key(key: &DecryptionKey, algorithm: &'static OaepAlgorithm, wrapped: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut room = Zeroizing::new(vec![0; key.key.min_output_size()]);
    let content_key = key.key.decrypt(algorithm, wrapped, &mut room, None).ok()?;
    Some(Zeroizing::new(content_key.to_vec()))
}

/// Nonce, ciphertext, tag (XML Encryption 1.1 section 5.2.4).
fn open_gcm(cipher: ContentCipher, key: &[u8], content: Vec<u8>) -> Option<Vec<u8>> {
    let algorithm = match cipher.key_length {
        16 => &aead::AES_128_GCM,
        24 => &aead::AES_192_GCM,
        _ => &aead::AES_256_GCM,
    };
    let (nonce, sealed) = content.split_at_checked(GCM_NONCE)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let key = LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?);
    let mut sealed = sealed.to_vec();
    let plaintext = key.open_in_place(nonce, Aad::empty(), &mut sealed).ok()?;
    Some(plaintext.to_vec())
}

/// Initialization vector, ciphertext; the last byte counts the padding, which may hold anything (XML Encryption 1.1
/// section 5.2.3, ISO 10126).
fn open_cbc(cipher: ContentCipher, key: &[u8], content: Vec<u8>) -> Option<Vec<u8>> {
    let algorithm = match cipher.key_length {
        16 => &cipher::AES_128,
        24 => &cipher::AES_192,
        _ => &cipher::AES_256,
    };
    let (vector, body) = content.split_at_checked(BLOCK)?;
    let vector: [u8; BLOCK] = vector.try_into().ok()?;
    let key = DecryptingKey::cbc(UnboundCipherKey::new(algorithm, key).ok()?).ok()?;
    let mut body = body.to_vec();
    // The library refuses what is not whole blocks, and nothing has no last byte.
    let plaintext = key.decrypt(&mut body, DecryptionContext::Iv128(FixedLength::from(vector))).ok()?;
    let padding = usize::from(*plaintext.last()?);
    if padding == 0 || padding > BLOCK {
        return None;
    }
    plaintext.get(..plaintext.len().checked_sub(padding)?).map(<[u8]>::to_vec)
}

/// A stranger's text, short enough for a log line.
fn short(text: &str) -> String {
    text.chars().take(100).collect()
}

/// Puts a plaintext in the place of the EncryptedAssertion, whose namespaces stay in scope for it.
///
/// `text` is the document that `encrypted` stands in. `context` are the namespaces at the element as the provider wrote
/// it, prefix and name; those that the plaintext declares itself count before them.
pub(super) fn substitute(
    text: &str,
    encrypted: Node<'_, '_>,
    plaintext: &str,
    context: &[(Option<String>, String)],
) -> Option<String> {
    let plaintext = plaintext.strip_prefix('\u{feff}').unwrap_or(plaintext).trim();
    let plaintext = match plaintext.strip_prefix("<?xml") {
        Some(declaration) => declaration.split_once("?>")?.1.trim_start(),
        None => plaintext,
    };
    let name_end = plaintext.find(|c: char| c.is_ascii_whitespace() || c == '>' || c == '/')?;
    let (name, rest) = plaintext.split_at_checked(name_end)?;
    let own = declared_prefixes(rest);
    let inherited = encrypted.parent();
    let known = |prefix: &Option<String>, name: &str| {
        inherited.is_some_and(|parent| parent.lookup_namespace_uri(prefix.as_deref()) == Some(name))
    };
    let mut whole = String::with_capacity(text.len() + plaintext.len());
    let range = encrypted.range();
    whole.push_str(text.get(..range.start)?);
    whole.push_str(name);
    for (prefix, namespace) in context {
        if own.contains(&prefix.as_deref()) || known(prefix, namespace) {
            continue;
        }
        let colon = if prefix.is_some() { ":" } else { "" };
        let namespace = namespace.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
        whole.push_str(&format!(" xmlns{colon}{}=\"{namespace}\"", prefix.as_deref().unwrap_or_default()));
    }
    whole.push_str(rest);
    whole.push_str(text.get(range.end..)?);
    Some(whole)
}

/// The prefixes that a start tag declares; `None` for the default namespace. `tag` begins behind the element's name.
fn declared_prefixes(tag: &str) -> Vec<Option<&str>> {
    let mut prefixes = Vec::new();
    let mut rest = tag;
    while let Some((name, value)) = rest.split_once('=') {
        if name.contains('>') {
            break;
        }
        match name.trim().strip_prefix("xmlns") {
            Some("") => prefixes.push(None),
            Some(prefixed) => prefixes.extend(prefixed.strip_prefix(':').map(Some)),
            None => {}
        }
        let value = value.trim_start();
        let Some(quote) = value.chars().next().filter(|quote| matches!(quote, '"' | '\'')) else { break };
        let Some((_, after)) = value.get(1..).and_then(|value| value.split_once(quote)) else { break };
        rest = after;
    }
    prefixes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_tag_tells_which_namespaces_it_declares() {
        let tag = " ID='a>b' xmlns=\"u\" xmlns:a = 'x=y' b:xmlns='no'><c xmlns:d='e'/>";
        assert_eq!(declared_prefixes(tag), [None, Some("a")]);
        assert_eq!(declared_prefixes("><a b='c'/>"), []);
        assert_eq!(declared_prefixes("/>"), []);
        assert_eq!(declared_prefixes(" a=b"), []);
    }

    #[test]
    fn what_cbc_decrypts_to_ends_in_padding_of_one_block_at_most() {
        use aws_lc_rs::cipher::{EncryptingKey, EncryptionContext};

        let cipher = ContentCipher { mode: Mode::Cbc, key_length: 16 };
        let (key, vector) = ([7; 16], [9; BLOCK]);
        let sealed = |plaintext: &[u8]| {
            let key = EncryptingKey::cbc(UnboundCipherKey::new(&cipher::AES_128, &key).unwrap()).unwrap();
            let mut body = plaintext.to_vec();
            key.less_safe_encrypt(&mut body, EncryptionContext::Iv128(FixedLength::from(vector))).unwrap();
            [&vector[..], &body].concat()
        };
        let ending = |blocks: usize, padding: u8| {
            let mut plaintext = vec![b'a'; blocks * BLOCK];
            *plaintext.last_mut().unwrap() = padding;
            plaintext
        };
        for (blocks, padding, expected) in
            [(1, 1, Some(15)), (1, 15, Some(1)), (1, 16, Some(0)), (2, 16, Some(16)), (2, 0, None), (2, 17, None)]
        {
            let found = open_cbc(cipher, &key, sealed(&ending(blocks, padding)));
            assert_eq!(found, expected.map(|length| vec![b'a'; length]), "{blocks} blocks, padding {padding}");
        }
        let whole = sealed(&ending(2, 1));
        for length in [0, 1, 15, 16, 17, 31, 33, 47] {
            assert_eq!(open_cbc(cipher, &key, whole[..length].to_vec()), None, "{length} bytes");
        }
    }

    #[test]
    fn a_plaintext_takes_the_place_and_the_namespaces_of_its_ciphertext() {
        let text = "<r xmlns:s='u'><s:E xmlns='v'><x/></s:E></r>";
        let document = roxmltree::Document::parse(text).unwrap();
        let encrypted = document.root_element().first_element_child().unwrap();
        let context = [(Some("s".into()), "u".into()), (None, "v&".into()), (Some("t".into()), "w".into())];
        let whole = substitute(text, encrypted, "\n<?xml version='1.0'?><s:A xmlns:t='own'/> ", &context);
        assert_eq!(whole.as_deref(), Some("<r xmlns:s='u'><s:A xmlns=\"v&amp;\" xmlns:t='own'/></r>"));
        assert_eq!(substitute(text, encrypted, "", &context), None);
    }
}
