package saml

import (
	"crypto/rsa"
	"errors"

	"github.com/beevik/etree"
	"github.com/crewjam/saml/xmlenc"
)

// How an assertion may be encrypted. Its key goes by RSA-OAEP alone. What is
// encrypted without being protected from change (CBC) is only looked at in a
// response that is signed: the answers to changed ones would tell what is inside.
var (
	keyTransports = map[string]bool{"http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p": true, "http://www.w3.org/2009/xmlenc11#rsa-oaep": true}
	authenticated = map[string]bool{
		"http://www.w3.org/2009/xmlenc11#aes128-gcm": true, "http://www.w3.org/2009/xmlenc11#aes192-gcm": true, "http://www.w3.org/2009/xmlenc11#aes256-gcm": true,
	}
	malleable = map[string]bool{
		"http://www.w3.org/2001/04/xmlenc#aes128-cbc": true, "http://www.w3.org/2001/04/xmlenc#aes192-cbc": true, "http://www.w3.org/2001/04/xmlenc#aes256-cbc": true,
	}
)

// errNotDecrypted is the same whatever was wrong, for that reason.
var errNotDecrypted = errors.New("holds an assertion that cannot be decrypted")

// decrypt reads the assertion inside an EncryptedAssertion.
func decrypt(el *etree.Element, signed bool, keys []*rsa.PrivateKey) (*etree.Element, error) {
	data := only(el, nsEncrypted, "EncryptedData")
	if data == nil {
		return nil, errNotDecrypted
	}
	method := only(data, nsEncrypted, "EncryptionMethod")
	switch algorithm := algorithmOf(method); {
	case malleable[algorithm] && !signed:
		return nil, errors.New("holds an assertion encrypted with AES-CBC and is not signed itself: AES-GCM, or signing the response too, is needed")
	case !malleable[algorithm] && !authenticated[algorithm]:
		return nil, errors.New("holds an assertion encrypted with an algorithm that is not accepted: it must be AES-GCM, or AES-CBC in a signed response")
	}
	wrapped := children(el, nsEncrypted, "EncryptedKey")
	if info := only(data, nsSignature, "KeyInfo"); info != nil {
		wrapped = append(wrapped, children(info, nsEncrypted, "EncryptedKey")...)
	}
	if len(wrapped) != 1 {
		return nil, errors.New("holds an assertion that is not encrypted to exactly one key")
	}
	if !keyTransports[algorithmOf(only(wrapped[0], nsEncrypted, "EncryptionMethod"))] {
		return nil, errors.New("holds an assertion whose key is not encrypted with RSA-OAEP")
	}
	for _, key := range keys {
		if out := decryptWith(key, wrapped[0], data); out != nil {
			return out, nil
		}
	}
	return nil, errNotDecrypted
}

func decryptWith(key *rsa.PrivateKey, wrapped, data *etree.Element) *etree.Element {
	// A certificate beside it would only be compared with ours.
	wrapped, data = detach(wrapped), detach(data)
	for _, el := range []*etree.Element{wrapped, data} {
		for _, info := range children(el, nsSignature, "KeyInfo") {
			el.RemoveChild(info)
		}
	}
	content, err := xmlenc.Decrypt(key, wrapped)
	if err != nil {
		return nil
	}
	plain, err := xmlenc.Decrypt(content, data)
	if err != nil {
		return nil
	}
	out, err := messageLimits.read(plain)
	if err != nil {
		return nil
	}
	return out
}

func algorithmOf(method *etree.Element) string {
	if method == nil {
		return ""
	}
	return value(method, "Algorithm")
}
