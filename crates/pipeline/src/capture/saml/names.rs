//! Names of the specifications: namespaces and identifiers that the guard, the verifier and the issuing side share.

/// SAML 2.0 protocol (SAML Core section 3).
pub const PROTOCOL: &str = "urn:oasis:names:tc:SAML:2.0:protocol";
/// SAML 2.0 assertions (SAML Core section 2).
pub const ASSERTION: &str = "urn:oasis:names:tc:SAML:2.0:assertion";
/// SAML 2.0 metadata (SAML Metadata section 2).
pub const METADATA: &str = "urn:oasis:names:tc:SAML:2.0:metadata";
/// XML Signature.
pub const SIGNATURE: &str = "http://www.w3.org/2000/09/xmldsig#";
/// XML Encryption.
pub const ENCRYPTION: &str = "http://www.w3.org/2001/04/xmlenc#";
/// XML Encryption 1.1, for its `MGF` element.
pub const ENCRYPTION_11: &str = "http://www.w3.org/2009/xmlenc11#";
pub const XML_SCHEMA: &str = "http://www.w3.org/2001/XMLSchema";
pub const XML_SCHEMA_INSTANCE: &str = "http://www.w3.org/2001/XMLSchema-instance";

/// Exclusive canonicalization without comments; also the namespace of its InclusiveNamespaces element.
pub const EXCLUSIVE_C14N: &str = "http://www.w3.org/2001/10/xml-exc-c14n#";
pub const ENVELOPED_SIGNATURE: &str = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";

pub const SHA_1: &str = "http://www.w3.org/2000/09/xmldsig#sha1";
pub const SHA_256: &str = "http://www.w3.org/2001/04/xmlenc#sha256";
pub const SHA_384: &str = "http://www.w3.org/2001/04/xmldsig-more#sha384";
pub const SHA_512: &str = "http://www.w3.org/2001/04/xmlenc#sha512";

pub const RSA_SHA_256: &str = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256";
pub const RSA_SHA_384: &str = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha384";
pub const RSA_SHA_512: &str = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha512";
pub const RSA_PSS_SHA_256: &str = "http://www.w3.org/2007/05/xmldsig-more#sha256-rsa-MGF1";
pub const RSA_PSS_SHA_384: &str = "http://www.w3.org/2007/05/xmldsig-more#sha384-rsa-MGF1";
pub const RSA_PSS_SHA_512: &str = "http://www.w3.org/2007/05/xmldsig-more#sha512-rsa-MGF1";
pub const ECDSA_SHA_256: &str = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256";
pub const ECDSA_SHA_384: &str = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384";
pub const ECDSA_SHA_512: &str = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha512";

/// Status codes of what cannot be done as it was asked (SAML Core section 3.2.2.2): the outer one, and the inner one where the
/// principal is not known.
pub const REQUESTER: &str = "urn:oasis:names:tc:SAML:2.0:status:Requester";
pub const UNKNOWN_PRINCIPAL: &str = "urn:oasis:names:tc:SAML:2.0:status:UnknownPrincipal";
/// The top-level status code of an answer that grants what was asked (SAML Core section 3.2.2.2).
pub const SUCCESS: &str = "urn:oasis:names:tc:SAML:2.0:status:Success";
/// SAML Profiles section 3.3.
pub const BEARER: &str = "urn:oasis:names:tc:SAML:2.0:cm:bearer";
