// Command makeitso takes a repository that describes an application and makes
// it so.
package main

func main() {}
