// Package arch holds the rules of the house in tests: who may import whom, who
// owns which module, what is pure, and the sizes. It reads the module's source
// and knows no package of it.
package arch
