//! The second verifier (feature `samael`), and the one file that touches C: a document in, the bytes that were signed out.
//!
//! samael wraps libxmlsec1, which by itself follows references to files and addresses, runs XSLT, and accepts SHA-1 and
//! MD5. It is asked only about documents that the guard of [`crate::capture::saml`] and our own check have passed,
//! and [`lock_down`] takes away from the library, for the whole process, everything that a login does not need.

#![allow(unsafe_code, reason = "libxmlsec1 and libxml2 are set up through their C functions, here and nowhere else")]

use std::ffi::{CString, c_int, c_uchar, c_uint, c_void};
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use samael::crypto::{AllowedSignatureAlgorithm, CertificateDer, Crypto, CryptoProvider, ReduceMode};

use crate::capture::saml::names;
use crate::verify::Fault;

/// The signature algorithms of the guard's list that the library has; their digests are allowed with them.
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

/// Verifies every signature of a guarded document by one certificate, in DER, and gives the canonical bytes of what was
/// signed: the response where it is signed, else the assertion.
pub(super) fn signed_bytes(text: &str, certificate: &[u8]) -> Result<String, Fault> {
    lock_down().map_err(|_| Fault::Internal)?;
    be_silent();
    let certificate = CertificateDer::from(certificate.to_vec());
    Crypto::reduce_xml_to_signed_with_allowed_algorithms(text, &[certificate], ReduceMode::PreDigest, Some(&ALLOWED))
        .map_err(|_| Fault::Signature)
}

static UNJUDGED: AtomicU64 = AtomicU64::new(0);

/// Notes a document that the library cannot judge: one with RSA-PSS, or with signatures by two keys.
pub(super) fn count_unjudged() {
    UNJUDGED.fetch_add(1, Ordering::Relaxed);
}

/// How many documents our own check alone has judged since the start.
pub fn unjudged() -> u64 {
    UNJUDGED.load(Ordering::Relaxed)
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
    // of the process. A verification waits in `lock_down` until this is done, so no thread reads the list meanwhile. Its
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
