//! ID tokens and the key set that goes with them.

use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::{Curve, Hash, MintError, MintKey, Pair, Scheme};

/// Signs an ID token in compact form (RFC 7515 section 7.1), with header and claims as they are given.
///
/// `algorithm` is how it is signed, whatever the header says of it.
///
/// # Errors
/// When the key cannot sign by the algorithm.
pub fn id_token(key: &MintKey, algorithm: &str, header: &Value, claims: &Value) -> Result<String, MintError> {
    signed(key, algorithm, header.to_string().as_bytes(), claims.to_string().as_bytes())
}

/// Signs any two texts in the places of header and claims.
///
/// # Errors
/// As for [`id_token`].
pub fn signed(key: &MintKey, algorithm: &str, header: &[u8], claims: &[u8]) -> Result<String, MintError> {
    let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = key.sign(scheme(algorithm)?, input.as_bytes())?;
    Ok(format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// A key as a member of a JWK Set (RFC 7517, RFC 7518 section 6, RFC 8037).
///
/// # Errors
/// When the library cannot write the key.
pub fn jwk(key: &MintKey, key_id: &str) -> Result<Value, MintError> {
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    Ok(match &key.pair {
        Pair::Rsa(pair) => {
            let public = pair.public_key();
            json!({"kty": "RSA", "use": "sig", "kid": key_id,
                "n": text(public.modulus().big_endian_without_leading_zero()),
                "e": text(public.exponent().big_endian_without_leading_zero())})
        }
        Pair::Ec(curve, pair) => {
            // An uncompressed point: 4, x, y (SEC 1 section 2.3.3).
            let point = pair.public_key().as_ref().get(1..).ok_or(MintError::Crypto)?;
            let (x, y) = point.split_at_checked(point.len() / 2).ok_or(MintError::Crypto)?;
            json!({"kty": "EC", "use": "sig", "kid": key_id, "crv": curve_name(*curve), "x": text(x), "y": text(y)})
        }
        Pair::Ed25519(pair) => {
            json!({"kty": "OKP", "use": "sig", "kid": key_id, "crv": "Ed25519", "x": text(pair.public_key().as_ref())})
        }
    })
}

/// The JWK Set of several keys.
pub fn jwks(keys: &[Value]) -> Value {
    json!({ "keys": keys })
}

fn curve_name(curve: Curve) -> &'static str {
    match curve {
        Curve::P256 => "P-256",
        Curve::P384 => "P-384",
        Curve::P521 => "P-521",
    }
}

fn scheme(algorithm: &str) -> Result<Scheme, MintError> {
    Ok(match algorithm {
        "RS256" => Scheme::RsaPkcs1(Hash::Sha256),
        "RS384" => Scheme::RsaPkcs1(Hash::Sha384),
        "RS512" => Scheme::RsaPkcs1(Hash::Sha512),
        "PS256" => Scheme::RsaPss(Hash::Sha256),
        "PS384" => Scheme::RsaPss(Hash::Sha384),
        "PS512" => Scheme::RsaPss(Hash::Sha512),
        "ES256" | "ES384" | "ES512" => Scheme::Ecdsa,
        "EdDSA" => Scheme::EdDsa,
        other => return Err(MintError::Scheme(other.to_owned())),
    })
}
