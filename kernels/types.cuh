// Names for the sizes of integers.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
