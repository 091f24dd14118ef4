//! The one file that touches C: a document in, the very bytes that were signed out.
//!
//! samael wraps libxmlsec1, which by itself follows references to files and addresses, runs XSLT, and accepts SHA-1 and
//! MD5. The guard of [`crate::pipeline::capture::saml`] is the first wall against that; [`lock_down`] is the second: it
//! takes away from the library, for the whole process, everything that a login does not need.

#![allow(unsafe_code, reason = "libxmlsec1 and libxml2 are set up through their C functions, here and nowhere else")]

use std::ffi::{CString, c_int, c_uchar, c_uint, c_void};
use std::ptr::null_mut;
use std::sync::OnceLock;

use samael::crypto::{AllowedSignatureAlgorithm, CertificateDer, Crypto, CryptoProvider, ReduceMode};

use super::certificates::CertificateSet;
use crate::pipeline::capture::saml::{KeyFamily, names};
use crate::pipeline::verify::Fault;

/// The signature algorithms of the guard's list; their digests are allowed with them.
const ALLOWED: [AllowedSignatureAlgorithm; 6] = [
    AllowedSignatureAlgorithm::RsaSha256,
    AllowedSignatureAlgorithm::RsaSha384,
    AllowedSignatureAlgorithm::RsaSha512,
    AllowedSignatureAlgorithm::EcdsaSha256,
    AllowedSignatureAlgorithm::EcdsaSha384,
    AllowedSignatureAlgorithm::EcdsaSha512,
];

/// All that the library keeps being able to do.
const TRANSFORMS: [&str; 11] = [
    names::ENVELOPED_SIGNATURE,
    names::EXCLUSIVE_C14N,
    names::SHA_256,
    names::SHA_384,
    names::SHA_512,
    names::RSA_SHA_256,
    names::RSA_SHA_384,
    names::RSA_SHA_512,
    names::ECDSA_SHA_256,
    names::ECDSA_SHA_384,
    names::ECDSA_SHA_512,
];

/// The signature library could not be set up safely, so no SAML login can be verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the XML signature library could not be locked down; expected libxmlsec1 with SHA-2, RSA and ECDSA")]
pub struct LockDownFailed;

/// Verifies every signature of a guarded document, and gives the canonical bytes of what was signed: the response where
/// it is signed, else the assertion.
///
/// One call for each certificate: with two at once the library stops at the first whose key is of another type.
pub(super) fn signed_bytes(
    text: &str,
    certificates: &CertificateSet,
    family: Option<KeyFamily>,
) -> Result<String, Fault> {
    lock_down().map_err(|_| Fault::Internal)?;
    be_silent();
    certificates
        .ders(family)
        .find_map(|certificate| {
            Crypto::reduce_xml_to_signed_with_allowed_algorithms(
                text,
                std::slice::from_ref(certificate),
                ReduceMode::PreDigest,
                Some(&ALLOWED),
            )
            .ok()
        })
        .ok_or(Fault::Signature)
}

/// Takes from the XML signature library what it must never use: files, network, stylesheets, weak algorithms, stderr.
///
/// Runs once, before the first verification at the latest; call it at start-up so that a failure shows there.
///
/// # Errors
/// When the library lacks something that every login needs.
pub fn lock_down() -> Result<(), LockDownFailed> {
    static DONE: OnceLock<Result<(), LockDownFailed>> = OnceLock::new();
    *DONE.get_or_init(|| {
        // SAFETY: sets a flag that is read when an error is reported. Nothing else runs in the library yet.
        unsafe { xmlSecErrorsDefaultCallbackEnableOutput(0) };
        be_silent();
        initialize();
        reduce_library()
    })
}

/// Makes samael initialize the library, which it does before it looks at a key: this one is none.
fn initialize() {
    let document = format!("<Signature xmlns=\"{}\"/>", names::SIGNATURE);
    let no_key = CertificateDer::from(Vec::new());
    let _ = Crypto::reduce_xml_to_signed_with_allowed_algorithms(&document, &[no_key], ReduceMode::PreDigest, None);
}

fn reduce_library() -> Result<(), LockDownFailed> {
    let mut needed = Vec::with_capacity(TRANSFORMS.len());
    // SAFETY: the list of registered transforms is a global that lives from initialization, which has happened, to the end
    // of the process. Whoever verifies waits in `lock_down` until this is done, so nobody reads the list meanwhile. Its
    // members are static descriptions, and stay valid when the list is emptied.
    unsafe {
        let list = xmlSecTransformIdsGet();
        if list.is_null() {
            return Err(LockDownFailed);
        }
        for transform in TRANSFORMS {
            let href = CString::new(transform).map_err(|_| LockDownFailed)?;
            let id = xmlSecTransformIdListFindByHref(list, href.as_ptr().cast::<c_uchar>(), ANY_USAGE);
            if id.is_null() {
                return Err(LockDownFailed);
            }
            needed.push(id);
        }
        xmlSecPtrListEmpty(list);
        for id in needed {
            if xmlSecTransformIdsRegister(id) < 0 {
                return Err(LockDownFailed);
            }
        }
        // Without callbacks no reference opens a file or an address.
        xmlSecIOCleanupCallbacks();
    }
    Ok(())
}

/// The keys of certificates, decoded once.
///
/// The certificates are those of the configuration and of metadata that it names, never one that a message brought. Where the
/// build cannot arrange it (`build.rs`) each verification decodes anew.
#[cfg(keys_kept)]
mod kept {
    use std::collections::HashMap;
    use std::ffi::{c_char, c_int, c_uchar, c_uint, c_void};
    use std::ptr::{NonNull, null_mut};
    use std::sync::{PoisonError, RwLock};

    /// Some eight providers in the middle of a rollover. When metadata has brought more over time, all are decoded again.
    const MOST: usize = 64;
    /// `xmlSecKeyDataFormatCertDer`.
    const CERTIFICATE_DER: c_int = 8;

    /// The public key of a certificate as the library holds it.
    struct Key(NonNull<c_void>);

    // SAFETY: after it is made it is only duplicated, which reads it and counts one more reference to OpenSSL's key,
    // atomically; and it is destroyed by its one owner.
    unsafe impl Send for Key {}
    // SAFETY: as above.
    unsafe impl Sync for Key {}

    impl Key {
        /// Takes the key out of what a certificate was loaded as. The certificate stays behind: duplicating it would mean to
        /// encode and decode it, and a verification that is given its key does not look at it.
        fn of_loaded(loaded: NonNull<c_void>) -> Option<Self> {
            // SAFETY: `loaded` is a valid key of the library. Its value stays its own; the duplicate is handed to the new key,
            // which destroys it, or is destroyed here when it could not be handed over.
            unsafe {
                let value = NonNull::new(xmlSecKeyDataDuplicate(xmlSecKeyGetValue(loaded.as_ptr())))?;
                let Some(key) = NonNull::new(xmlSecKeyCreate()).map(Self) else {
                    xmlSecKeyDataDestroy(value.as_ptr());
                    return None;
                };
                if xmlSecKeySetValue(key.0.as_ptr(), value.as_ptr()) < 0 {
                    xmlSecKeyDataDestroy(value.as_ptr());
                    return None;
                }
                Some(key)
            }
        }

        /// One more of it, for somebody who will destroy it; null when memory is short.
        fn duplicate(&self) -> *mut c_void {
            // SAFETY: the key is valid as long as `self` is.
            unsafe { xmlSecKeyDuplicate(self.0.as_ptr()) }
        }
    }

    impl Drop for Key {
        fn drop(&mut self) {
            // SAFETY: made by the library, owned by this value alone.
            unsafe { xmlSecKeyDestroy(self.0.as_ptr()) };
        }
    }

    static KEYS: RwLock<Option<HashMap<Box<[u8]>, Key>>> = RwLock::new(None);

    /// Whether a certificate's key was decoded before.
    #[cfg(test)]
    pub fn has(certificate: &[u8]) -> bool {
        KEYS.read().is_ok_and(|keys| keys.as_ref().is_some_and(|keys| keys.contains_key(certificate)))
    }

    /// What samael calls in the place of `xmlSecOpenSSLAppKeyLoadMemory`: `build.rs` has the linker see to it (`--wrap` of
    /// GNU ld and its like).
    ///
    /// # Safety
    /// As for the function that it stands for: `data` points to `size` readable bytes.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn __wrap_xmlSecOpenSSLAppKeyLoadMemory(
        data: *const c_uchar,
        size: c_uint,
        format: c_int,
        password: *const c_char,
        callback: *mut c_void,
        context: *mut c_void,
    ) -> *mut c_void {
        // SAFETY: the arguments are passed on as they came. A length that the caller gave in 32 bits is the same in more,
        // for a library that was built with a wider `xmlSecSize`.
        let load = || unsafe {
            __real_xmlSecOpenSSLAppKeyLoadMemory(data, size as usize, format, password, callback, context)
        };
        if format != CERTIFICATE_DER || data.is_null() {
            return load();
        }
        // SAFETY: the caller says so, see above.
        let certificate = unsafe { std::slice::from_raw_parts(data, size as usize) };
        if let Some(key) =
            KEYS.read().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(|keys| keys.get(certificate))
        {
            return key.duplicate();
        }
        let Some(loaded) = NonNull::new(load()) else { return null_mut() };
        if let Some(key) = Key::of_loaded(loaded) {
            let mut keys = KEYS.write().unwrap_or_else(PoisonError::into_inner);
            let keys = keys.get_or_insert_default();
            if keys.len() >= MOST {
                keys.clear();
            }
            keys.insert(certificate.into(), key);
        }
        loaded.as_ptr()
    }

    // As in xmlsec/keys.h, xmlsec/keysdata.h and xmlsec/openssl/app.h.
    unsafe extern "C" {
        fn __real_xmlSecOpenSSLAppKeyLoadMemory(
            data: *const c_uchar,
            size: usize,
            format: c_int,
            password: *const c_char,
            callback: *mut c_void,
            context: *mut c_void,
        ) -> *mut c_void;
        fn xmlSecKeyCreate() -> *mut c_void;
        fn xmlSecKeyDestroy(key: *mut c_void);
        fn xmlSecKeyDuplicate(key: *mut c_void) -> *mut c_void;
        fn xmlSecKeyGetValue(key: *mut c_void) -> *mut c_void;
        fn xmlSecKeySetValue(key: *mut c_void, value: *mut c_void) -> c_int;
        fn xmlSecKeyDataDuplicate(value: *mut c_void) -> *mut c_void;
        fn xmlSecKeyDataDestroy(value: *mut c_void);
    }
}

/// Sends what the XML parser says of bad input nowhere. The setting is each thread's own.
fn be_silent() {
    // SAFETY: the handler is a function of the type that the library expects, lives for ever and ignores its arguments.
    unsafe { xmlSetStructuredErrorFunc(null_mut(), Some(ignore_error)) };
}

extern "C" fn ignore_error(_context: *mut c_void, _error: *mut c_void) {}

/// `xmlSecTransformUsageAny`.
const ANY_USAGE: c_uint = 0xFFFF;

// Linked by samael. Signatures as in xmlsec/errors.h, xmlsec/io.h, xmlsec/list.h, xmlsec/transforms.h and
// libxml/xmlerror.h; the pointers are to types of which nothing here looks inside.
unsafe extern "C" {
    fn xmlSecErrorsDefaultCallbackEnableOutput(enabled: c_int);
    fn xmlSecIOCleanupCallbacks();
    fn xmlSecPtrListEmpty(list: *mut c_void);
    fn xmlSecTransformIdsGet() -> *mut c_void;
    fn xmlSecTransformIdListFindByHref(list: *mut c_void, href: *const c_uchar, usage: c_uint) -> *const c_void;
    fn xmlSecTransformIdsRegister(id: *const c_void) -> c_int;
    fn xmlSetStructuredErrorFunc(
        context: *mut c_void,
        handler: Option<extern "C" fn(context: *mut c_void, error: *mut c_void)>,
    );
}

#[cfg(test)]
#[cfg(keys_kept)]
mod tests {
    use super::*;

    const CERTIFICATE: &[u8] = include_bytes!("../../../../fixtures/keys/idp-p384.certificate.test-only.pem");
    const OTHER: &[u8] = include_bytes!("../../../../fixtures/keys/idp-p521.certificate.test-only.pem");

    /// A signature that no key has made: the key is loaded for it all the same.
    fn look_at(pem: &[u8]) -> Vec<u8> {
        let certificates = CertificateSet::from_pem(pem).unwrap();
        let digest = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let text = format!(
            r##"<a ID="x"><Signature xmlns="{dsig}"><SignedInfo><CanonicalizationMethod Algorithm="{c14n}"/><SignatureMethod
            Algorithm="{method}"/><Reference URI="#x"><DigestMethod Algorithm="{sha}"/><DigestValue>{digest}</DigestValue>
            </Reference></SignedInfo><SignatureValue>AAAA</SignatureValue></Signature></a>"##,
            dsig = names::SIGNATURE,
            c14n = names::EXCLUSIVE_C14N,
            method = names::ECDSA_SHA_256,
            sha = names::SHA_256,
        );
        assert_eq!(signed_bytes(&text, &certificates, Some(KeyFamily::EllipticCurve)), Err(Fault::Signature));
        certificates.ders(Some(KeyFamily::EllipticCurve)).next().unwrap().der_data().to_vec()
    }

    #[test]
    fn the_key_of_a_certificate_is_decoded_once_and_kept_by_its_bytes() {
        let certificate = look_at(CERTIFICATE);
        assert!(kept::has(&certificate), "the linker does not bring samael's calls past `kept`");
        let last = certificate.len() - 1;
        let mut altered = certificate.clone();
        altered[last] ^= 1;
        assert!(!kept::has(&altered));
        assert!(kept::has(&look_at(OTHER)) && kept::has(&certificate));
    }
}
