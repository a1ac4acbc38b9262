/* The modules in the executable: modules.c and modules.S are made by freeze.py. */
extern const unsigned char modules_deflated[];
extern const unsigned long modules_deflated_size, modules_size;
extern struct _frozen modules_frozen[]; /* code: offsets into the inflated block, until it is inflated */
