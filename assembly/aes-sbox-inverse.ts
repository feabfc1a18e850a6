/**
 * InvSubBytes as a circuit. FIPS 197, section 5.3.2: the affine map undone, then the inverse in GF(2^8).
 *
 * The field's inverse is its own inverse, so this circuit has the same middle as the S-box (`aes-sbox.ts`). With A for the
 * linear part of the affine map, and U and B for what the S-box's circuit does from x to y and from z to s:
 *
 *   S(x)    = B(products(U x)) ^ 0x63           where B(products(U x)) is A(1/x)
 *   S'(x)   = 1/(A'(x ^ 0x63))
 *           = A'B(products(U A'(x ^ 0x63)))     where ' is the inverse
 *
 * So from x to y it is U A' here, and from z to s it is A' B, each written out anew with as few gates as were found: 23 and 30, as
 * in the S-box. y0 is what x7 is there. x ^ 0x63 is what the state holds, because the round keys contain the constant.
 */
import { BIT0, BIT1, BIT2, BIT3, BIT4, BIT5, BIT6, BIT7, GROUP_BYTES } from './aes-groups';

/** InvShiftRows, InvSubBytes and AddRoundKey. */
export function unsubstitute(groups: usize, end: usize, key: usize): void {
  for (let group = groups; group < end; group += GROUP_BYTES) {
    const x0 = unshiftRows(v128.load(group, BIT7));
    const x1 = unshiftRows(v128.load(group, BIT6));
    const x2 = unshiftRows(v128.load(group, BIT5));
    const x3 = unshiftRows(v128.load(group, BIT4));
    const x4 = unshiftRows(v128.load(group, BIT3));
    const x5 = unshiftRows(v128.load(group, BIT2));
    const x6 = unshiftRows(v128.load(group, BIT1));
    const x7 = unshiftRows(v128.load(group, BIT0));

    const y5 = v128.xor(x1, x3);
    const y3 = v128.xor(x0, x3);
    const y19 = v128.xor(x4, x7);
    const y6 = v128.xor(x1, y3);
    const y14 = v128.xor(x4, y6);
    const y1 = v128.xor(x3, y19);
    const y8 = v128.xor(x3, y6);
    const y13 = v128.xor(x6, y1);
    const y12 = v128.xor(y14, y13);
    const y4 = v128.xor(y3, y12);
    const y9 = v128.xor(y14, y8);
    const y7 = v128.xor(x2, y4);
    const y10 = v128.xor(y19, y8);
    const y18 = v128.xor(x2, y9);
    const u0 = v128.xor(x2, x5);
    const y0 = v128.xor(x0, u0);
    const y2 = v128.xor(y7, y18);
    const y11 = v128.xor(y7, y0);
    const y21 = v128.xor(x6, y7);
    const y15 = v128.xor(y6, y0);
    const y20 = v128.xor(y9, y11);
    const y16 = v128.xor(y1, y7);
    const y17 = v128.xor(y15, y16);

    const t2 = v128.and(y12, y15);
    const t3 = v128.and(y3, y6);
    const t4 = v128.xor(t3, t2);
    const t5 = v128.and(y4, y0);
    const t6 = v128.xor(t5, t2);
    const t7 = v128.and(y13, y16);
    const t8 = v128.and(y5, y1);
    const t9 = v128.xor(t8, t7);
    const t10 = v128.and(y2, y7);
    const t11 = v128.xor(t10, t7);
    const t12 = v128.and(y9, y11);
    const t13 = v128.and(y14, y17);
    const t14 = v128.xor(t13, t12);
    const t15 = v128.and(y8, y10);
    const t16 = v128.xor(t15, t12);
    const t17 = v128.xor(t4, t14);
    const t18 = v128.xor(t6, t16);
    const t19 = v128.xor(t9, t14);
    const t20 = v128.xor(t11, t16);
    const t21 = v128.xor(t17, y20);
    const t22 = v128.xor(t18, y19);
    const t23 = v128.xor(t19, y21);
    const t24 = v128.xor(t20, y18);
    const t25 = v128.xor(t21, t22);
    const t26 = v128.and(t21, t23);
    const t27 = v128.xor(t24, t26);
    const t28 = v128.and(t25, t27);
    const t29 = v128.xor(t28, t22);
    const t30 = v128.xor(t23, t24);
    const t31 = v128.xor(t22, t26);
    const t32 = v128.and(t31, t30);
    const t33 = v128.xor(t32, t24);
    const t34 = v128.xor(t23, t33);
    const t35 = v128.xor(t27, t33);
    const t36 = v128.and(t24, t35);
    const t37 = v128.xor(t36, t34);
    const t38 = v128.xor(t27, t36);
    const t39 = v128.and(t29, t38);
    const t40 = v128.xor(t25, t39);
    const t41 = v128.xor(t40, t37);
    const t42 = v128.xor(t29, t33);
    const t43 = v128.xor(t29, t40);
    const t44 = v128.xor(t33, t37);
    const t45 = v128.xor(t42, t41);

    const z0 = v128.and(t44, y15);
    const z1 = v128.and(t37, y6);
    const z2 = v128.and(t33, y0);
    const z3 = v128.and(t43, y16);
    const z4 = v128.and(t40, y1);
    const z5 = v128.and(t29, y7);
    const z6 = v128.and(t42, y11);
    const z7 = v128.and(t45, y17);
    const z8 = v128.and(t41, y10);
    const z9 = v128.and(t44, y12);
    const z10 = v128.and(t37, y3);
    const z11 = v128.and(t33, y4);
    const z12 = v128.and(t43, y13);
    const z13 = v128.and(t40, y5);
    const z14 = v128.and(t29, y2);
    const z15 = v128.and(t42, y9);
    const z16 = v128.and(t45, y14);
    const z17 = v128.and(t41, y8);

    const v0 = v128.xor(z6, z15);
    const v1 = v128.xor(z12, v0);
    const v2 = v128.xor(z16, v1);
    const v3 = v128.xor(z13, v2);
    const v4 = v128.xor(z8, v3);
    const v5 = v128.xor(z2, v4);
    const s3 = v128.xor(v5, z0);
    const v6 = v128.xor(z3, z4);
    const v7 = v128.xor(z5, v4);
    const s0 = v128.xor(v7, z3);
    const v8 = v128.xor(z1, v6);
    const v9 = v128.xor(v3, v6);
    const s6 = v128.xor(v9, z7);
    const v10 = v128.xor(z11, z17);
    const v11 = v128.xor(z14, v8);
    const v12 = v128.xor(z10, v5);
    const v13 = v128.xor(z0, s0);
    const s5 = v128.xor(v8, v13);
    const v14 = v128.xor(v11, v12);
    const v15 = v128.xor(z11, z13);
    const s2 = v128.xor(v14, v15);
    const v16 = v128.xor(z9, v10);
    const s7 = v128.xor(v16, z15);
    const v17 = v128.xor(v3, v16);
    const v18 = v128.xor(v0, s2);
    const s1 = v128.xor(v18, v17);
    const v19 = v128.xor(s6, v13);
    const v20 = v128.xor(v10, v19);
    const v21 = v128.xor(z16, v20);
    const s4 = v128.xor(v21, v12);

    v128.store(group, v128.xor(s0, v128.load(key, BIT7)), BIT7);
    v128.store(group, v128.xor(s1, v128.load(key, BIT6)), BIT6);
    v128.store(group, v128.xor(s2, v128.load(key, BIT5)), BIT5);
    v128.store(group, v128.xor(s3, v128.load(key, BIT4)), BIT4);
    v128.store(group, v128.xor(s4, v128.load(key, BIT3)), BIT3);
    v128.store(group, v128.xor(s5, v128.load(key, BIT2)), BIT2);
    v128.store(group, v128.xor(s6, v128.load(key, BIT1)), BIT1);
    v128.store(group, v128.xor(s7, v128.load(key, BIT0)), BIT0);
  }
}

/** Row r is rotated right by r bytes. */
function unshiftRows(bits: v128): v128 {
  return i8x16.swizzle(bits, i8x16(0, 1, 2, 3, 7, 4, 5, 6, 10, 11, 8, 9, 13, 14, 15, 12));
}
