package saml

import (
	"encoding/xml"
	"strings"

	"github.com/beevik/etree"
)

// is tells whether an element is the one that a namespace and a name mean.
func is(el *etree.Element, ns, name string) bool {
	return el != nil && el.Tag == name && el.NamespaceURI() == ns
}

// children are an element's own children of a name.
func children(el *etree.Element, ns, name string) []*etree.Element {
	var out []*etree.Element
	for _, c := range el.ChildElements() {
		if is(c, ns, name) {
			out = append(out, c)
		}
	}
	return out
}

// only returns the one child of a name; nil if there is none or several.
func only(el *etree.Element, ns, name string) *etree.Element {
	if found := children(el, ns, name); len(found) == 1 {
		return found[0]
	}
	return nil
}

// attr is the value of an attribute in no namespace, and whether it is there.
func attr(el *etree.Element, name string) (string, bool) {
	for _, a := range el.Attr {
		if a.Space == "" && a.Key == name {
			return a.Value, true
		}
	}
	return "", false
}

// value is attr for those where being empty and missing are one.
func value(el *etree.Element, name string) string {
	v, _ := attr(el, name)
	return v
}

// text is what stands in an element, without white space around it. Ok is false
// if anything but text stands there: the text beside it is never read alone.
func text(el *etree.Element) (s string, ok bool) {
	var out strings.Builder
	for _, c := range el.Child {
		t, isText := c.(*etree.CharData)
		if !isText {
			return "", false
		}
		out.WriteString(t.Data)
	}
	return strings.Trim(out.String(), " \t\r\n"), true
}

// walk calls see for an element and all below it.
func walk(el *etree.Element, see func(*etree.Element) error) error {
	if err := see(el); err != nil {
		return err
	}
	for _, c := range el.ChildElements() {
		if err := walk(c, see); err != nil {
			return err
		}
	}
	return nil
}

// detach copies an element out of its document, with the namespaces that are
// declared around it.
func detach(el *etree.Element) *etree.Element {
	out := el.Copy()
	declared := map[string]bool{}
	for from := el; from != nil; from = from.Parent() {
		for _, a := range from.Attr {
			prefix, is := declares(xml.Name{Space: a.Space, Local: a.Key})
			if !is || declared[prefix] {
				continue
			}
			declared[prefix] = true
			if from != el {
				out.Attr = append(out.Attr, etree.Attr{Space: a.Space, Key: a.Key, Value: a.Value})
			}
		}
	}
	return out
}
