// What an attacker can make of a genuine answer without the IdP's key. Each function takes form fields and gives changed ones.

import { generateKeyPairSync } from "node:crypto";
import { promisify } from "node:util";
import { SignedXml } from "xml-crypto";
import xmlenc from "xml-encryption";
import { DOMParser, XMLSerializer } from "@xmldom/xmldom";

const XMLDSIG = "http://www.w3.org/2000/09/xmldsig#";
const ASSERTION = "urn:oasis:names:tc:SAML:2.0:assertion";
const EXCLUSIVE_C14N = "http://www.w3.org/2001/10/xml-exc-c14n#";

const strangersKey = generateKeyPairSync("rsa", {
  modulusLength: 2048,
  privateKeyEncoding: { type: "pkcs8", format: "pem" },
  publicKeyEncoding: { type: "spki", format: "pem" },
});

// ---- OIDC

// One more group in the claims, under the signature of the old ones.
export function tamperIdToken(fields) {
  const [header, payload, signature] = fields.id_token.split(".");
  const claims = JSON.parse(Buffer.from(payload, "base64url"));
  claims.groups = ["marketing", "engineering"];
  claims.jti = `${claims.jti}-tampered`; // not a replay, whatever else it is
  const changed = Buffer.from(JSON.stringify(claims)).toString("base64url");
  return { ...fields, id_token: [header, changed, signature].join(".") };
}

export function unsignIdToken(fields) {
  const [, payload] = fields.id_token.split(".");
  const header = Buffer.from(JSON.stringify({ alg: "none", typ: "JWT" })).toString("base64url");
  return { ...fields, id_token: `${header}.${payload}.` };
}

// ---- SAML

// A changed group under the genuine signature. Where the assertion is encrypted, a changed byte of it.
export function tamperResponse(fields) {
  return editXml(fields, (xml) => {
    const encrypted = /(<(?:\w+:)?CipherValue>)([^<]{200,})(<)/g;
    let last = null;
    for (const found of xml.matchAll(encrypted)) last = found; // the first is the wrapped key, the last the content
    const changed = last
      ? replaceAt(xml, last.index + last[1].length + Math.floor(last[2].length / 2), (c) => (c === "A" ? "B" : "A"))
      : xml.replace(">unmapped<", ">engineering<");
    if (changed === xml) throw new Error("nothing to tamper with in this response");
    return changed;
  });
}

// The same claims, every signature gone.
export function unsignResponse(fields) {
  return editXml(fields, (xml) => {
    const document = parseXml(xml);
    removeSignatures(document);
    return serialize(document);
  });
}

// A well-made signature over the assertion, by a key that the IdP's metadata does not hold.
export function resignResponse(fields) {
  return editXml(fields, (xml) => {
    const document = parseXml(xml);
    removeSignatures(document);
    return signAssertion(serialize(document));
  });
}

// The same for an encrypted assertion: anyone can encrypt to the app, its certificate is public.
export async function resignEncryptedResponse(fields, { key, certificate, publicKey }) {
  const document = parseXml(decode(fields));
  removeSignatures(document);
  const encrypted = document.getElementsByTagNameNS(ASSERTION, "EncryptedAssertion")[0];
  const plain = parseXml(await promisify(xmlenc.decrypt)(serialize(encrypted), { key }));
  removeSignatures(plain);
  const signed = signAssertion(serialize(plain));
  const sealed = await promisify(xmlenc.encrypt)(signed, {
    rsa_pub: publicKey,
    pem: certificate,
    encryptionAlgorithm: "http://www.w3.org/2009/xmlenc11#aes256-gcm",
    keyEncryptionAlgorithm: "http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p",
  });
  while (encrypted.firstChild) encrypted.removeChild(encrypted.firstChild);
  encrypted.appendChild(document.importNode(parseXml(sealed).documentElement, true));
  return encode(fields, serialize(document));
}

function signAssertion(xml) {
  const assertion = "//*[local-name(.)='Assertion']";
  const signer = new SignedXml({
    privateKey: strangersKey.privateKey,
    canonicalizationAlgorithm: EXCLUSIVE_C14N,
    signatureAlgorithm: "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
  });
  signer.addReference({
    xpath: assertion,
    transforms: ["http://www.w3.org/2000/09/xmldsig#enveloped-signature", EXCLUSIVE_C14N],
    digestAlgorithm: "http://www.w3.org/2001/04/xmlenc#sha256",
  });
  signer.computeSignature(xml, { prefix: "ds", location: { reference: `${assertion}/*[local-name(.)='Issuer']`, action: "after" } });
  const signed = signer.getSignedXml();

  // A forgery that fails for another reason than its key would prove nothing.
  const signature = parseXml(signed).getElementsByTagNameNS(XMLDSIG, "Signature")[0];
  const check = new SignedXml({ publicCert: strangersKey.publicKey });
  check.loadSignature(signature);
  if (!check.checkSignature(signed)) throw new Error("the forged signature does not even verify with its own key");
  return signed;
}

function removeSignatures(document) {
  for (const signature of Array.from(document.getElementsByTagNameNS(XMLDSIG, "Signature"))) {
    signature.parentNode.removeChild(signature);
  }
}

function editXml(fields, edit) {
  return encode(fields, edit(decode(fields)));
}

function decode(fields) {
  return Buffer.from(fields.SAMLResponse, "base64").toString();
}

function encode(fields, xml) {
  return { ...fields, SAMLResponse: Buffer.from(xml).toString("base64") };
}

function parseXml(xml) {
  return new DOMParser().parseFromString(xml, "text/xml");
}

function serialize(node) {
  return new XMLSerializer().serializeToString(node);
}

function replaceAt(text, index, change) {
  return text.slice(0, index) + change(text[index]) + text.slice(index + 1);
}
