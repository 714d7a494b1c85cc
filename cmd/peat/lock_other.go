//go:build !unix

package main

// lockDir cannot lock here; two processes on one folder are the user's to avoid.
func lockDir(string) (func(), error) { return func() {}, nil }
