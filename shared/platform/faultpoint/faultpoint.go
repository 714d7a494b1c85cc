// Package faultpoint names the moments of a piece of work at which a test may end
// the process, so that "whole after kill -9 at every step" can be shown for each
// step there is and not for those that a timer happens to meet.
//
// What is here: the calls between steps. They do nothing, unless a test armed them
// (faultpointtest). What is not: faults that the program should handle; those come
// from scripted parts.
package faultpoint

import "sync/atomic"

// armed is a global, against the rule, because death is: it comes to the whole
// process, and the work that it meets must not be written differently for it.
var armed atomic.Pointer[func(step string)]

// Hit is called between two steps. Its argument is a literal "work/step", as
// faultpointtest.Complete reads them from the source.
func Hit(step string) {
	if f := armed.Load(); f != nil {
		(*f)(step)
	}
}

// Arm has f called at every step from now on. It is for tests alone, in a process
// of their own: there is no way to disarm.
func Arm(f func(step string)) { armed.Store(&f) }
